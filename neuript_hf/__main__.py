"""
What users ask first, from the command line.

    neuript inspect recording.edf                                # its channels, and which of them would be used
    neuript embed recording.edf --model FOLDER -o table.parquet  # one vector for each window
    neuript predict recording.edf --model FOLDER                 # one class for each window
    neuript export-hub hub/neuript-tiny OUT                      # a checkpoint as a folder that works anywhere
    neuript push hub/neuript-tiny ORG/NAME                       # the same, uploaded to the Hub

`python -m neuript_hf` is the same command.
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd
from transformers import AutoModel, AutoModelForSequenceClassification, pipeline

from .checkpoints.export import export_checkpoint, push_checkpoint
from .data.atomic import atomic_write
from .feature_extraction_neuript import NeurIPTFeatureExtractor
from .training.cpu import keep_memory


WRITERS = {".parquet": pd.DataFrame.to_parquet, ".csv": pd.DataFrame.to_csv, ".jsonl": pd.DataFrame.to_json}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="neuript", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recording = argparse.ArgumentParser(add_help=False)
    recording.add_argument("source", metavar="recording", help="a file with EEG")
    recording.add_argument("--montage", nargs="+", help="name of a montage, as_recorded, or electrodes and pairs")
    recording.add_argument("--net", help="cap whose own site names the recording uses, e.g. biosemi64")
    recording.add_argument("--on_missing", choices=["raise", "drop", "interpolate"], help="if a channel is missing")
    recording.add_argument("--channel_names", nargs="+", help="if the file has none")
    recording.add_argument("--sampling_rate", type=float, help="in hertz, if the file has none")
    recording.add_argument("--unit", choices=["uV", "mV", "V"], help="if the file has none, or a wrong one")
    checkpoint = argparse.ArgumentParser(add_help=False)
    checkpoint.add_argument("source", metavar="folder", help="a checkpoint folder")
    checkpoint.add_argument("--features", help="result file of research/evaluate_features.py, for a new card")
    checkpoint.add_argument("--reconstruction", help="result file of research/evaluate_reconstruction.py")

    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", parents=[recording], help="print the channel report; needs no weights")
    inspect.add_argument("--json", action="store_true", help="the report as JSON")
    for name, what in (("embed", "one vector for each window"), ("predict", "one class for each window")):
        command = commands.add_parser(name, parents=[recording], help=what)
        command.add_argument("--model", required=True, help="folder or Hub name of a checkpoint")
        command.add_argument("-o", "--output", help=f"table to write: {', '.join(WRITERS)}")
        command.add_argument("--window_seconds", type=float, help="length of a window; default the checkpoint's")
        command.add_argument("--stride_seconds", type=float, help="distance of window starts; default their length")
    export = commands.add_parser("export-hub", parents=[checkpoint], help="a checkpoint folder with real code files")
    export.add_argument("output", help="folder to write; must not exist or be empty")
    push = commands.add_parser("push", parents=[checkpoint], help="export a checkpoint and upload it to the Hub")
    push.add_argument("repository", help="ORG/NAME on the Hub; made if it does not exist")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--revision", help="branch to upload to; made if it does not exist")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; 0, or 1 if it fails, with the reason on standard error or printed."""
    options = parse(arguments)
    try:
        if options.command == "inspect":
            return inspect(options)
        print(COMMANDS[options.command](options))
    except (ValueError, OSError, ImportError) as error:
        print(f"{options.source}: {error}", file=sys.stderr)
        return 1
    return 0


def about_recording(options: argparse.Namespace) -> dict:
    """What the user says about the file, as arguments of feature extractor and pipeline."""
    names = ("channel_names", "sampling_rate", "unit")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def about_channels(options: argparse.Namespace) -> dict:
    """The feature extractor's settings that the user gives."""
    settings = {name: getattr(options, name) for name in ("net", "on_missing") if getattr(options, name) is not None}
    if options.montage is not None:
        settings["montage"] = options.montage[0] if len(options.montage) == 1 else options.montage
    return settings


def inspect(options: argparse.Namespace) -> int:
    extractor = NeurIPTFeatureExtractor(**({"montage": "as_recorded"} | about_channels(options)))
    report = extractor.inspect(options.source, **about_recording(options))
    print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if options.json else report)
    return 1 if report.problems else 0


def run_model(options: argparse.Namespace) -> str:
    suffix = Path(options.output).suffix if options.output else None
    if options.output and suffix not in WRITERS:
        raise ValueError(f"--output must end in {', '.join(WRITERS)}, but is {options.output}.")
    if options.command == "embed":
        task, model_class = "eeg-embedding", AutoModel
    else:
        task, model_class = "eeg-classification", AutoModelForSequenceClassification
    keep_memory()
    extractor = NeurIPTFeatureExtractor.from_pretrained(options.model, **about_channels(options))
    run = pipeline(task, model=model_class.from_pretrained(options.model), feature_extractor=extractor)
    windows = {name: getattr(options, name) for name in ("window_seconds", "stride_seconds")}
    windows = {name: value for name, value in windows.items() if value is not None}
    table = pd.DataFrame(run(options.source, **about_recording(options), **windows))
    print(run.reports[0])
    if options.output is None:
        return table.to_string(index=False, max_colwidth=60)
    table = table.drop(columns="scores", errors="ignore") if suffix == ".csv" else table
    if options.command == "embed" and suffix == ".csv":
        vectors = pd.DataFrame(table.pop("embedding").tolist()).add_prefix("embedding_")
        table = pd.concat([table, vectors], axis=1)
    write(table, Path(options.output))
    return f"wrote {len(table)} windows to {options.output}"


def write(table: pd.DataFrame, path: Path) -> None:
    options = {".jsonl": {"orient": "records", "lines": True}}.get(path.suffix, {"index": False})
    with atomic_write(path) as partial:
        WRITERS[path.suffix](table, partial, **options)


def export(options: argparse.Namespace) -> str:
    return f"wrote {export_checkpoint(options.source, options.output, options.features, options.reconstruction)}"


def push(options: argparse.Namespace) -> str:
    given = {name: getattr(options, name) for name in ("private", "revision", "features", "reconstruction")}
    return f"uploaded to {push_checkpoint(options.source, options.repository, **given)}"


COMMANDS = {"embed": run_model, "predict": run_model, "export-hub": export, "push": push}


__all__ = ["main"]


if __name__ == "__main__":
    sys.exit(main())
