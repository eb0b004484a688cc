"""
What users ask first, from the command line.

    neuript inspect recording.edf                                # its channels, and which of them would be used
    neuript inspect recording.edf --model FOLDER                 # what this model would see of it
    neuript embed recording.edf --model FOLDER -o table.parquet  # one vector for each window
    neuript predict *.edf --model FOLDER --on_error skip         # one class for each window; failures in a table
    neuript embed BIDS_ROOT DEST --model FOLDER --num-proc 8     # many recordings; call it again to go on after a kill
    neuript predict manifest.csv DEST participant --participant-label 01 02 --model FOLDER
    neuript explain recording.edf --model FOLDER -o figure.pdf   # what the answers rest on: channels, times, bands
    neuript export-hub hub/neuript-tiny OUT                      # a checkpoint as a folder that works anywhere
    neuript push hub/neuript-tiny ORG/NAME                       # the same, uploaded to the Hub

SOURCE is a recording or several, a folder, a manifest (.csv, .tsv, .jsonl with the columns file and subject) or a BIDS
root. With a DEST the results are a BIDS derivatives data set: a Parquet table and a JSON sidecar for each recording.
Both may be URLs such as s3://bucket/folder. `python -m neuript_hf` is the same command.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from .data.atomic import atomic_write, write_json
from .data.manifest import RECORDING_SUFFIXES
from .data.remote import address_of, local_copy, path_or_url
from .data.sources import list_recordings, open_listed
from .feature_extraction_neuript import NeurIPTFeatureExtractor
from .formats.arrays import SUFFIXES as ARRAY_SUFFIXES
from .formats.files import FOLDERS
from .recordings import Recording
from .training.arguments import with_option_hint
from .training.cpu import keep_memory


# `inspect` is what people call first: what only other commands need, they import themselves.
WRITERS = {".parquet": "to_parquet", ".csv": "to_csv", ".jsonl": "to_json"}  # methods of pandas.DataFrame
FIGURES = (".pdf", ".png", ".svg")
TASKS = {"embed": "eeg-embedding", "predict": "eeg-classification"}
# What a file of that name that is not there was meant to be; any other name is that of a new destination.
FILE_SUFFIXES = (*RECORDING_SUFFIXES, *ARRAY_SUFFIXES, *WRITERS, ".rec", ".raw", ".dat", ".data", ".eeg")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="neuript", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recording = argparse.ArgumentParser(add_help=False)
    recording.add_argument("sources", metavar="SOURCE", nargs="+", help="recordings, or a folder, manifest, BIDS root")
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
        command.usage = f"neuript {name} SOURCE [SOURCE ...] [DEST [participant]] --model MODEL [options]"
        command.add_argument(
            "--on_error", choices=["raise", "skip"], help="if a file fails; default raise, with a DEST skip"
        )
        command.add_argument("-o", "--output", help=f"one table instead of DEST: {', '.join(WRITERS)}")
        command.add_argument("--stride_seconds", type=float, help="distance of window starts; default their length")
        for option, about in {
            "participant-label": {"nargs": "+", "help": "people whose recordings to take, with or without sub-"},
            "num-proc": {"type": int, "default": 1, "help": "processes that work for a DEST"},
            "shard-index": {"type": int, "help": "number of this job, from 0, if several write to one DEST"},
            "num-shards": {"type": int, "help": "number of these jobs; default from SLURM's array or torchrun"},
        }.items():
            command.add_argument(f"--{option}", f"--{option.replace('-', '_')}", **about)
    explain = commands.add_parser("explain", parents=[recording], help="what the answers rest on, as a figure")
    explain.add_argument("--model", required=True, help="folder or Hub name of a classifier")
    explain.add_argument("-o", "--output", required=True, help=f"figure to write: {', '.join(FIGURES)}")
    explain.add_argument("--stride_seconds", type=float, help="distance of window starts; default their length")
    explain.add_argument("--bands", nargs="+", metavar="LOW-HIGH", help="hertz, e.g. 8-12 12.5-13.5; default nine")
    explain.add_argument(
        "--step_seconds", type=float, default=0.5, help="length of the stretches of time; default 0.5"
    )
    explain.set_defaults(on_error="raise")
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


def given_settings(options: argparse.Namespace) -> dict:
    """What the user says about recordings that do not say it themselves."""
    return {name: getattr(options, name) for name in ("channel_names", "sampling_rate", "unit", "variable", "trial")}


@contextmanager
def opened(row: dict, root: Any, options: argparse.Namespace) -> Iterator[Recording]:
    """The recording with what the user says about it."""
    with local_copy(row["path"], root) as path:
        yield open_listed(row, path, given_settings(options), options.drop)


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
    from .integrations.derivatives import weight_files

    weight_files(options.model)  # says what is wrong with a folder more plainly
    return NeurIPTFeatureExtractor.from_pretrained(options.model, **settings)


@contextmanager
def naming(path: str, options: argparse.Namespace, failures: dict[str, str]) -> Iterator[None]:
    """An error inside names the file; with `--on_error skip` it is kept in `failures`, and the work goes on."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        message = str(error) if path in str(error) else f"{path}: {error}"
        if options.on_error != "skip":
            others = "\n--on_error skip goes on with the other files." if len(options.sources) > 1 else ""
            raise ValueError(message + others) from error
        failures[path] = message
        print(with_hint(message), file=sys.stderr)


def inspect(options: argparse.Namespace) -> int:
    reports, failures = {}, {}
    looking = make_extractor(options)
    if options.model is not None:
        architecture = (AutoConfig.from_pretrained(options.model).architectures or [""])[0]
        task = "eeg-classification" if architecture.endswith("ForSequenceClassification") else "eeg-embedding"
        from .integrations.derivatives import load_pipeline

        looking = load_pipeline(task, options.model, looking)
    root, rows = list_recordings(options.sources)
    for row in rows:
        path = address_of(row["path"])
        with naming(path, options, failures), opened(row, root, options) as recording:
            reports[path] = looking.inspect(recording)
            if not options.json:
                print(f"{path}: {reports[path]}")
    if options.json:
        found = [{"recording": path} | report.to_dict() for path, report in reports.items()]
        print(json.dumps(found[0] if len(rows) == len(found) == 1 else found, indent=2, ensure_ascii=False))
    return 1 if failures or any(report.problems for report in reports.values()) else 0


def run_model(options: argparse.Namespace) -> int:
    """`embed` and `predict`: to a table, or to a derivatives data set where there is a destination."""
    keep_memory()
    destination = take_destination(options)
    return write_table(options) if destination is None else write_data_set(options, destination)


def take_destination(options: argparse.Namespace) -> str | None:
    """
    Takes the destination off the sources, if there is one: the last of several names, if it is a folder, a URL, or of
    nothing that is there and of no file.

    Raises:
        ValueError: for BIDS Apps' level "group", or "participant" without a destination.
    """
    *sources, last = options.sources
    if last in ("participant", "group") and len(sources) > 1 and not Path(last).exists():
        if last == "group":
            raise ValueError("There is no level 'group': results are for single recordings. Leave it out.")
        options.sources = sources[:-1]
        return sources[-1]
    place = path_or_url(last)
    is_file = last.lower().endswith(FILE_SUFFIXES) if not place.exists() else not place.is_dir()
    if options.output or not sources or is_file or place.suffix.lower() in FOLDERS:
        return None
    options.sources = sources
    return last


def write_data_set(options: argparse.Namespace, destination: str) -> int:
    from .data.jobs import share_of_this_job
    from .integrations.derivatives import Derivation, write_derivatives

    if options.output:
        raise ValueError(f"Give either the destination {destination} or the table -o {options.output}.")
    share = share_of_this_job(options.shard_index, options.num_shards)
    if share.origin:
        print(f"This job has {share}.")
    derivation = Derivation(
        task=TASKS[options.command],
        model=options.model,
        extractor=make_extractor(options).to_dict(),
        recording={name: value for name, value in given_settings(options).items() if value is not None},
        drop=tuple(options.drop),
        window_seconds=options.window_seconds,
        stride_seconds=options.stride_seconds,
    )
    summary = write_derivatives(
        options.sources,
        destination,
        derivation,
        participants=options.participant_label,
        num_proc=options.num_proc,
        share=share,
        on_error=options.on_error or "skip",
    )
    for recording, reason in summary.failures.items():
        print(with_hint(f"{recording}: {reason}"), file=sys.stderr)
    print(f"{summary}. Wrote to {destination}" + ", failures to failures.tsv there" * bool(summary.failures))
    # torchrun ends all processes when one of them fails
    return 1 if summary.failures and "RANK" not in os.environ else 0


def write_table(options: argparse.Namespace) -> int:
    import pandas as pd

    from .integrations.derivatives import in_columns, load_pipeline

    output = Path(options.output) if options.output else None
    if output and output.suffix not in WRITERS:
        raise ValueError(f"--output must end in {', '.join(WRITERS)}, but is {output}.")
    if (options.num_proc, options.shard_index, options.num_shards) != (1, None, None):
        raise ValueError("Several processes or jobs write to a destination, not to a table: embed SOURCE DEST ...")
    run = load_pipeline(TASKS[options.command], options.model, make_extractor(options))
    root, rows = list_recordings(options.sources, options.participant_label)
    tables, reports, failures = [], {}, {}
    for row in rows:
        path = address_of(row["path"])
        with naming(path, options, failures), opened(row, root, options) as recording:
            windows = run(recording, window_seconds=options.window_seconds, stride_seconds=options.stride_seconds)
            table = pd.DataFrame(windows)
            table.insert(0, "recording", path)
            tables.append(in_columns(table))
            reports[path] = [report.to_dict() for report in run.reports]
            print(f"{path}: {run.reports[0] if len(rows) == 1 else run.reports[0].summary}")
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


def write(table: Any, path: Path) -> None:
    import pandas as pd

    if path.suffix == ".csv" and "embedding" in table:
        vectors = pd.DataFrame(table["embedding"].tolist()).add_prefix("embedding_")
        table = pd.concat([table.drop(columns="embedding"), vectors], axis=1)
    if path.suffix == ".csv" and "labels" in table:
        table = table.assign(labels=table["labels"].str.join(";"))
    options = {".jsonl": {"orient": "records", "lines": True}}.get(path.suffix, {"index": False})
    with atomic_write(path) as partial:
        getattr(table, WRITERS[path.suffix])(partial, **options)


def explain(options: argparse.Namespace) -> int:
    """What the answers rest on, mean over the windows of the recordings: a figure, and beside it the table."""
    import matplotlib
    from datasets import concatenate_datasets

    matplotlib.use("Agg")
    from .evaluation.baselines import BANDS
    from .explain.figures import explanation_figure
    from .explain.occlusion import occlusion
    from .explain.summary import summarise
    from .explain.windows import value_title, windows_of
    from .integrations.derivatives import load_pipeline

    output = Path(options.output)
    if output.suffix not in FIGURES:
        raise ValueError(f"--output must end in {', '.join(FIGURES)}, but is {output}.")
    bands = BANDS if options.bands is None else [read_band(text) for text in options.bands]
    keep_memory()
    run = load_pipeline("eeg-classification", options.model, make_extractor(options))
    root, rows = list_recordings(options.sources)
    parts = []
    for row in rows:
        path = address_of(row["path"])
        with naming(path, options, {}), opened(row, root, options) as recording:
            where = {"window_seconds": options.window_seconds, "stride_seconds": options.stride_seconds}
            parts.append(windows_of(recording, run.feature_extractor, name=path, person=row["subject"] or "", **where))
    table = occlusion(
        run.model, concatenate_datasets(parts), run.feature_extractor, bands=bands, step_seconds=options.step_seconds
    )
    summary = summarise(table)
    told = table.drop_duplicates(["recording", "onset", "target"])["target"].value_counts()
    title = f"{sum(map(len, parts))} windows: {', '.join(f'{name} ({count})' for name, count in told.items())}"
    figure = explanation_figure(summary, title, value_title(run.model.config))
    with atomic_write(output) as partial:
        figure.savefig(partial, format=output.suffix[1:])
    with atomic_write(output.with_suffix(".csv")) as partial:
        table.to_csv(partial, index=False)
    print(summary.to_string(index=False))
    print(f"wrote {output}, and its table to {output.with_suffix('.csv')}")
    return 0


def read_band(text: str) -> tuple[float, float]:
    """`"8-12"` -> (8, 12), in hertz."""
    low, _, high = text.partition("-")
    try:
        return float(low), float(high)
    except ValueError as error:
        raise ValueError(f"A band is LOW-HIGH in hertz, such as 8-12 or 12.5-13.5, but one is {text!r}.") from error


def export(options: argparse.Namespace) -> int:
    from .checkpoints.export import export_checkpoint

    print(f"wrote {export_checkpoint(options.folder, options.output, options.features, options.reconstruction)}")
    return 0


def push(options: argparse.Namespace) -> int:
    from .checkpoints.export import push_checkpoint

    given = {name: getattr(options, name) for name in ("private", "revision", "features", "reconstruction")}
    print(f"uploaded to {push_checkpoint(options.folder, options.repository, **given)}")
    return 0


COMMANDS = {
    "inspect": inspect,
    "embed": run_model,
    "predict": run_model,
    "explain": explain,
    "export-hub": export,
    "push": push,
}


__all__ = ["main"]


if __name__ == "__main__":
    sys.exit(main())
