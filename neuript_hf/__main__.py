"""
What users ask first, from the command line.

    neuript inspect recording.edf                                # its channels, and which of them would be used
    neuript inspect recording.edf --model FOLDER                 # what this model would see of it
    neuript embed recording.edf --model FOLDER -o table.parquet  # one vector for each window
    neuript predict *.edf --model FOLDER --on_error skip         # one class for each window; failures in a table
    neuript export-hub hub/neuript-tiny OUT                      # a checkpoint as a folder that works anywhere
    neuript push hub/neuript-tiny ORG/NAME                       # the same, uploaded to the Hub

`python -m neuript_hf` is the same command.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, pipeline

from .checkpoints.export import export_checkpoint, push_checkpoint
from .data.atomic import atomic_write, write_json
from .feature_extraction_neuript import NeurIPTFeatureExtractor
from .formats.files import open_recording
from .pipeline_neuript import EEGPipeline
from .recordings import Recording
from .training.arguments import with_option_hint
from .training.cpu import keep_memory


WRITERS = {".parquet": pd.DataFrame.to_parquet, ".csv": pd.DataFrame.to_csv, ".jsonl": pd.DataFrame.to_json}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="neuript", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recording = argparse.ArgumentParser(add_help=False)
    recording.add_argument("sources", metavar="recording", nargs="+", help="a file with EEG, or several")
    recording.add_argument("--montage", nargs="+", help="name of a montage, as_recorded, or electrodes and pairs")
    recording.add_argument("--net", help="cap whose own site names the recording uses, e.g. biosemi64")
    recording.add_argument("--on_missing", choices=["raise", "drop", "interpolate"], help="if a channel is missing")
    recording.add_argument(
        "--drop", nargs="+", action="extend", default=[], help="channels to leave out, as the file spells them"
    )
    recording.add_argument("--channel_names", nargs="+", help="if the file has none")
    recording.add_argument("--sampling_rate", type=float, help="in hertz, if the file has none")
    recording.add_argument("--unit", choices=["uV", "mV", "V"], help="if the file has none, or a wrong one")
    recording.add_argument("--variable", help="array to read, if the file has several")
    recording.add_argument("--trial", type=int, help="trial to read, from 0, if the file has several")
    recording.add_argument(
        "--keep_bad_time", action="store_true", help="also make windows where annotations begin with BAD"
    )
    recording.add_argument("--window_seconds", type=float, help="length of a window; default the checkpoint's, or 4")
    checkpoint = argparse.ArgumentParser(add_help=False)
    checkpoint.add_argument("folder", help="a checkpoint folder")
    checkpoint.add_argument("--features", help="result file of research/evaluate_features.py, for a new card")
    checkpoint.add_argument("--reconstruction", help="result file of research/evaluate_reconstruction.py")

    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", parents=[recording], help="print the channel report; needs no weights")
    inspect.add_argument("--model", help="checkpoint whose view to show; default: all channels")
    inspect.set_defaults(on_error="skip")
    inspect.add_argument("--json", action="store_true", help="the report as JSON")
    for name, what in (("embed", "one vector for each window"), ("predict", "one class for each window")):
        command = commands.add_parser(name, parents=[recording], help=what)
        command.add_argument("--model", required=True, help="folder or Hub name of a checkpoint")
        command.add_argument(
            "--on_error", choices=["raise", "skip"], default="raise", help="what to do with a file that fails"
        )
        command.add_argument("-o", "--output", help=f"table to write: {', '.join(WRITERS)}")
        command.add_argument("--stride_seconds", type=float, help="distance of window starts; default their length")
    export = commands.add_parser("export-hub", parents=[checkpoint], help="a checkpoint folder with real code files")
    export.add_argument("output", help="folder to write; must not exist or be empty")
    push = commands.add_parser("push", parents=[checkpoint], help="export a checkpoint and upload it to the Hub")
    push.add_argument("repository", help="ORG/NAME on the Hub; made if it does not exist")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--revision", help="branch to upload to; made if it does not exist")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; 0, or 1 if it fails, with the reason on standard error or in the report that is printed."""
    options = parse(arguments)
    try:
        return COMMANDS[options.command](options)
    except (ValueError, OSError, ImportError) as error:
        print(with_hint(str(error)), file=sys.stderr)
        return 1


def with_hint(message: str) -> str:
    """Errors advise with Python's arguments; these are the options of the same names."""
    names = "channel_names sampling_rate unit variable trial net on_missing montage reject_by_annotation".split()
    hint = "Here, unit='uV' is --unit uV, and so on; reject_by_annotation=False is --keep_bad_time."
    return with_option_hint(message, names, hint)


def open_source(path: str, options: argparse.Namespace) -> Recording:
    """The recording with what the user says about it."""
    given = {name: getattr(options, name) for name in ("channel_names", "sampling_rate", "unit", "variable", "trial")}
    recording = open_recording(path, **given)
    recording.drop_channels(options.drop)
    return recording


def make_extractor(options: argparse.Namespace) -> NeurIPTFeatureExtractor:
    """The checkpoint's, or one that takes the recording's own channels, with the settings that the user gives."""
    settings = {name: getattr(options, name) for name in ("net", "on_missing") if getattr(options, name) is not None}
    if options.montage is not None:
        settings["montage"] = options.montage[0] if len(options.montage) == 1 else options.montage
    if options.keep_bad_time:
        settings["reject_by_annotation"] = False
    if options.window_seconds is not None:
        settings["window_seconds"] = options.window_seconds
    if options.model is None:
        return NeurIPTFeatureExtractor(**({"montage": "as_recorded"} | settings))
    return NeurIPTFeatureExtractor.from_pretrained(options.model, **settings)


@contextmanager
def naming(path: str, options: argparse.Namespace, failures: dict[str, str]) -> Iterator[None]:
    """An error inside names the file; with `--on_error skip` it is kept in `failures`, and the work goes on."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        message = str(error) if path in str(error) else f"{path}: {error}"
        if options.on_error == "raise":
            others = "\n--on_error skip goes on with the other files." if len(options.sources) > 1 else ""
            raise ValueError(message + others) from error
        failures[path] = message
        print(with_hint(message), file=sys.stderr)


def load_pipeline(task: str, options: argparse.Namespace) -> EEGPipeline:
    """
    The checkpoint's model with the user's settings.

    Raises:
        ValueError: where there is no such folder, or no weights in it.
    """
    folder = Path(options.model)
    if not folder.exists() and folder.parent != Path() and folder.parent.is_dir():
        there = ", ".join(sorted(str(path) for path in folder.parent.iterdir() if (path / "config.json").is_file()))
        raise ValueError(f"There is no folder {folder}. Checkpoints beside it: {there or 'none'}.")
    if folder.is_dir() and not [*folder.glob("*model*.safetensors"), *folder.glob("*model*.bin")]:
        raise ValueError(f"{folder} has no weights. Take another checkpoint, or train this one and save it.")
    model_class = AutoModel if task == "eeg-embedding" else AutoModelForSequenceClassification
    return pipeline(task, model=model_class.from_pretrained(options.model), feature_extractor=make_extractor(options))


def inspect(options: argparse.Namespace) -> int:
    reports, failures = {}, {}
    if options.model is None:
        looking = make_extractor(options)
    else:
        architecture = (AutoConfig.from_pretrained(options.model).architectures or [""])[0]
        classifies = architecture.endswith("ForSequenceClassification")
        looking = load_pipeline("eeg-classification" if classifies else "eeg-embedding", options)
    for path in options.sources:
        with naming(path, options, failures):
            reports[path] = looking.inspect(open_source(path, options))
            if not options.json:
                print(f"{path}: {reports[path]}")
    if options.json:
        found = [{"recording": path} | report.to_dict() for path, report in reports.items()]
        print(json.dumps(found[0] if len(options.sources) == len(found) == 1 else found, indent=2, ensure_ascii=False))
    return 1 if failures or any(report.problems for report in reports.values()) else 0


def run_model(options: argparse.Namespace) -> int:
    output = Path(options.output) if options.output else None
    if output and output.suffix not in WRITERS:
        raise ValueError(f"--output must end in {', '.join(WRITERS)}, but is {output}.")
    keep_memory()
    run = load_pipeline("eeg-embedding" if options.command == "embed" else "eeg-classification", options)
    tables, reports, failures = [], {}, {}
    for path in options.sources:
        with naming(path, options, failures):
            recording = open_source(path, options)
            rows = run(recording, window_seconds=options.window_seconds, stride_seconds=options.stride_seconds)
            table = pd.DataFrame(rows)
            table.insert(0, "recording", path)
            tables.append(in_columns(table))
            reports[path] = [report.to_dict() for report in run.reports]
            print(f"{path}: {run.reports[0] if len(options.sources) == 1 else run.reports[0].summary}")
    if not tables:
        raise ValueError("No recording could be read, so there is nothing to write.")
    table = pd.concat(tables, ignore_index=True)
    if output is None:
        print(table.drop(columns="recording").to_string(index=False, max_colwidth=60) if len(tables) == 1 else table)
    else:
        write(table, output)
        write_json(output.with_suffix(".reports.json"), reports)
        print(f"wrote {len(table)} windows to {output}, reports to {output.with_suffix('.reports.json')}")
    if failures and output:
        failed = output.with_suffix(".failures.csv")
        write(pd.DataFrame({"recording": failures.keys(), "reason": failures.values()}), failed)
        print(f"wrote {len(failures)} failures to {failed}")
    return 1 if failures else 0


def in_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A column for each class or number, in place of a dictionary in each row."""
    for column, prefix in (("scores", "score_"), ("values", "value_")):
        if column in table:
            table = pd.concat([table, pd.DataFrame(table.pop(column).tolist()).add_prefix(prefix)], axis=1)
    return table


def write(table: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv" and "embedding" in table:
        vectors = pd.DataFrame(table["embedding"].tolist()).add_prefix("embedding_")
        table = pd.concat([table.drop(columns="embedding"), vectors], axis=1)
    if path.suffix == ".csv" and "labels" in table:
        table = table.assign(labels=table["labels"].str.join(";"))
    options = {".jsonl": {"orient": "records", "lines": True}}.get(path.suffix, {"index": False})
    with atomic_write(path) as partial:
        WRITERS[path.suffix](table, partial, **options)


def export(options: argparse.Namespace) -> int:
    print(f"wrote {export_checkpoint(options.folder, options.output, options.features, options.reconstruction)}")
    return 0


def push(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in ("private", "revision", "features", "reconstruction")}
    print(f"uploaded to {push_checkpoint(options.folder, options.repository, **given)}")
    return 0


COMMANDS = {"inspect": inspect, "embed": run_model, "predict": run_model, "export-hub": export, "push": push}


__all__ = ["main"]


if __name__ == "__main__":
    sys.exit(main())
