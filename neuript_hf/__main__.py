"""
What users ask first, from the command line.

    python -m neuript_hf inspect recording.edf                              # what is in it, what would be used
    python -m neuript_hf embed recording.edf --model FOLDER -o table.parquet   # one vector for each window
    python -m neuript_hf predict recording.edf --model FOLDER                    # one class for each window
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd
from transformers import AutoModel, AutoModelForSequenceClassification, pipeline

from .feature_extraction_neuript import NeurIPTFeatureExtractor


WRITERS = {".parquet": pd.DataFrame.to_parquet, ".csv": pd.DataFrame.to_csv, ".jsonl": pd.DataFrame.to_json}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m neuript_hf", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recording = argparse.ArgumentParser(add_help=False)
    recording.add_argument("recording", help="a file with EEG")
    recording.add_argument("--montage", nargs="+", help="name of a montage, as_recorded, or electrodes and pairs")
    recording.add_argument("--net", help="cap whose own site names the recording uses, e.g. biosemi64")
    recording.add_argument("--on_missing", choices=["raise", "drop", "interpolate"], help="where a channel lacks")
    recording.add_argument("--channel_names", nargs="+", help="where the file has none")
    recording.add_argument("--sampling_rate", type=float, help="hertz, where the file has none")
    recording.add_argument("--unit", choices=["uV", "mV", "V"], help="where the file has none, or a wrong one")
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", parents=[recording], help="print the channel report; needs no weights")
    inspect.add_argument("--json", action="store_true", help="the report as JSON")
    for name, what in (("embed", "one vector for each window"), ("predict", "one class for each window")):
        command = commands.add_parser(name, parents=[recording], help=what)
        command.add_argument("--model", required=True, help="folder or Hub name of a checkpoint")
        command.add_argument("-o", "--output", help=f"table to write: {', '.join(WRITERS)}")
        command.add_argument("--window_seconds", type=float, help="length of a window; default the checkpoint's")
        command.add_argument("--stride_seconds", type=float, help="distance of window starts; default their length")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; 0, or 1 where the recording can't be used, with the reason on standard error or printed."""
    options = parse(arguments)
    try:
        if options.command == "inspect":
            return inspect(options)
        print(run_model(options))
    except (ValueError, OSError, ImportError) as error:
        print(f"{options.recording}: {error}", file=sys.stderr)
        return 1
    return 0


def about_recording(options: argparse.Namespace) -> dict:
    """What the user says about the file, as the extractor and the pipeline take it."""
    names = ("channel_names", "sampling_rate", "unit")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def about_channels(options: argparse.Namespace) -> dict:
    """Fields of the extractor that the user sets."""
    settings = {name: getattr(options, name) for name in ("net", "on_missing") if getattr(options, name) is not None}
    if options.montage is not None:
        settings["montage"] = options.montage[0] if len(options.montage) == 1 else options.montage
    return settings


def inspect(options: argparse.Namespace) -> int:
    extractor = NeurIPTFeatureExtractor(**({"montage": "as_recorded"} | about_channels(options)))
    report = extractor.inspect(options.recording, **about_recording(options))
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
    extractor = NeurIPTFeatureExtractor.from_pretrained(options.model, **about_channels(options))
    run = pipeline(task, model=model_class.from_pretrained(options.model), feature_extractor=extractor)
    windows = {name: getattr(options, name) for name in ("window_seconds", "stride_seconds")}
    windows = {name: value for name, value in windows.items() if value is not None}
    table = pd.DataFrame(run(options.recording, **about_recording(options), **windows))
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
    """Under a temporary name first, so that a table is whole or not there."""
    partial = path.with_name(path.name + ".part")
    options = {".jsonl": {"orient": "records", "lines": True}}.get(path.suffix, {"index": False})
    WRITERS[path.suffix](table, partial, **options)
    partial.replace(path)


__all__ = ["main"]


if __name__ == "__main__":
    sys.exit(main())
