"""Tables of recordings: a manifest or a folder -> one row for each recording, each person on one side of the split."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split

from ..formats.files import open_recording
from ..recordings import Recording, Segment, check_positive


RECORDING_SUFFIXES = (".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".fif.gz", ".cnt", ".mff", ".nxe", ".lay")
SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
SUBJECT_PATTERN = r"sub-([A-Za-z0-9]+)"
BIDS_RECORDING = re.compile(r"sub-[^/]+/(ses-[^/]+/)?eeg/[^/]+_eeg\.[^/]+")


def read_table(
    source: Path,
    rows: Mapping[str, str] | None,
    label_column: str | None,
    events: Mapping[str, str] | Sequence[str] | None,
    subject_pattern: str,
) -> pd.DataFrame:
    """One row for each recording: path, subject, label or events, and what else the manifest says."""
    if source.is_dir() and (source / "manifest.csv").is_file():
        source = source / "manifest.csv"
    if source.is_dir():
        table = _scan_folder(source, subject_pattern, labelled=label_column is not None and events is None)
        label_column = "label" if "label" in table else None
    elif source.is_file():
        readers = {".csv": pd.read_csv, ".tsv": lambda path, **kw: pd.read_csv(path, sep="\t", **kw)}
        if source.suffix in readers:
            table = readers[source.suffix](source, dtype=str, keep_default_na=False)
        elif source.suffix == ".jsonl":
            table = pd.read_json(source, lines=True, dtype=str).fillna("")
        else:
            raise ValueError(f"A manifest must be .csv, .tsv or .jsonl, but {source} is not.")
        lacking = {"file", "subject"} - set(table)
        if lacking:
            raise ValueError(f"The manifest {source} lacks the columns {sorted(lacking)}; it has {list(table)}.")
        table["path"] = [str(source.parent / file) for file in table["file"]]
    else:
        raise FileNotFoundError(f"No manifest or folder at {source}.")

    for column, value in (rows or {}).items():
        if column not in table:
            raise ValueError(f"No column {column!r} to choose rows by; the manifest has {list(table)}.")
        table = table[table[column] == value]
    if table.empty:
        raise ValueError(f"No recording left in {source}" + (f" with {dict(rows)}." if rows else "."))
    absent = [path for path in table["path"] if not Path(path).exists()]
    if absent:
        raise FileNotFoundError(f"{len(absent)} recordings of {source} do not exist, the first: {absent[:3]}.")

    table = table.copy()
    if events is not None:
        names = dict(events) if isinstance(events, Mapping) else {name: name for name in events}
        table["events"] = [names] * len(table)
    elif "events" in table and (table["events"] != "").any():
        table["events"] = [json.loads(entry) for entry in table["events"]]
    else:
        table["events"] = None
        if label_column is not None:
            if label_column not in table or (table[label_column] == "").any():
                raise ValueError(
                    f"Every recording of {source} needs a class in column {label_column!r}, or name the annotations "
                    f"that hold the classes with `events`, or ask for windows without labels with label_column=None."
                )
            table["label"] = table[label_column]
        elif "label" in table:
            table = table.drop(columns="label")
    return table


def _scan_folder(folder: Path, subject_pattern: str, labelled: bool) -> pd.DataFrame:
    """The recordings below a folder; a subject from each path, a class from the name of the folder it lies in."""
    paths = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(RECORDING_SUFFIXES))
    if (folder / "dataset_description.json").is_file():  # a BIDS root: no derivatives, no source data
        paths = [path for path in paths if BIDS_RECORDING.fullmatch(path.relative_to(folder).as_posix())]
    if not paths:
        raise ValueError(f"No recording below {folder}; known endings: {', '.join(RECORDING_SUFFIXES)}.")
    records = []
    for path in paths:
        relative = path.relative_to(folder)
        subject = re.search(subject_pattern, str(relative))
        if subject is None:
            raise ValueError(
                f"No person recognised in {relative} by {subject_pattern!r}. Give a subject_pattern, or a "
                "manifest.csv with "
                f"the columns file and subject: without people, windows of one could stand in training and test."
            )
        record = {"file": str(relative), "path": str(path), "subject": subject[1]}
        if labelled:
            if path.parent == folder:
                raise ValueError(
                    f"{relative} lies in no folder that names its class. Sort the files into one folder for each "
                    f"class, give a manifest.csv with a label column, or name annotations with `events`."
                )
            record["label"] = path.parent.name
        records.append(record)
    return pd.DataFrame(records)


def assign_splits(
    table: pd.DataFrame, split_column: str, shares: tuple[float, float, float], seed: int, within_subject: bool
) -> pd.DataFrame:
    """Fills the column `split` from the manifest, or by drawing people; refuses a person on two sides."""
    if split_column in table:
        unknown = set(table[split_column]) - set(SPLIT_NAMES)
        if unknown:
            raise ValueError(
                f"Column {split_column!r} must say one of {sorted(SPLIT_NAMES)}, but says {sorted(unknown)}."
            )
        table["split"] = table[split_column].map(SPLIT_NAMES)
    else:
        table["split"] = table["subject"].map(_draw_people(table, shares, seed))
    sides = table.groupby("subject")["split"].nunique()
    if not within_subject and (sides > 1).any():
        raise ValueError(
            f"These people are on more than one side of the split: {sorted(sides.index[sides > 1])}. What a model "
            f"learns about a person would count as skill; say within_subject=True if the protocol wants that."
        )
    return table


def _draw_people(table: pd.DataFrame, shares: tuple[float, float, float], seed: int) -> dict[str, str]:
    """Subject -> split, stratified by class where every person belongs to one and each class has people enough."""
    subjects = sorted(table["subject"].unique())
    if abs(sum(shares) - 1) > 1e-6 or min(shares) < 0:
        raise ValueError(f"split_shares must be three shares that sum to 1, but are {shares}.")
    if len(subjects) < sum(share > 0 for share in shares):
        raise ValueError(f"{len(subjects)} people can't be split into {shares}; give a {'split'!r} column instead.")
    strata = None
    if "label" in table and (table.groupby("subject")["label"].nunique() == 1).all():
        of_subject = table.groupby("subject")["label"].first()
        if of_subject.value_counts().min() >= 3:
            strata = of_subject
    train, validation, test = shares
    names, rest = ["train"] * len(subjects), validation + test
    drawn = dict(zip(subjects, names, strict=True))
    if rest > 0:
        kept, others = (subjects, [])
        if train > 0:
            kept, others = train_test_split(
                subjects, test_size=rest, random_state=seed, stratify=None if strata is None else strata[subjects]
            )
        else:
            others = kept
        if validation > 0 and test > 0:
            for_validation, for_test = train_test_split(
                others, test_size=test / rest, random_state=seed, stratify=None if strata is None else strata[others]
            )
        else:
            for_validation, for_test = (others, []) if validation > 0 else ([], others)
        drawn |= dict.fromkeys(for_validation, "validation") | dict.fromkeys(for_test, "test")
    return drawn


def class_names(table: pd.DataFrame, events: Mapping[str, str] | Sequence[str] | None) -> list[str]:
    """Names of the classes: those of events in the order given, those of whole recordings in order of the alphabet."""
    if table["events"].notna().any():
        return list(dict.fromkeys(name for entry in table["events"] for name in entry.values()))
    return sorted(table["label"].unique()) if "label" in table else []


def open_row(row: Mapping[str, str]) -> Recording:
    """
    The recording of a manifest's row, `path`, with what the row says of files that do not say it themselves:
    `sampling_rate` in hertz, `unit`, `channel_names` with blanks between them, `step` (how much of the unit one step
    of the file's whole numbers is) and `trial_seconds` (trials of this length stand one after the other: neither a
    window nor a filter reaches from one into the next).

    Raises:
        FileNotFoundError, ValueError: as [`open_recording`], or where `step` or `trial_seconds` is not positive.
    """
    source = open_recording(
        row["path"],
        sampling_rate=float(row["sampling_rate"]) if row.get("sampling_rate") else None,
        channel_names=row["channel_names"].split() if row.get("channel_names") else None,
        unit=row.get("unit") or None,
    )
    if row.get("step"):
        _scale(source, float(row["step"]))
    if row.get("trial_seconds"):
        _part_trials(source, float(row["trial_seconds"]))
    return source


def _scale(source: Recording, step: float) -> None:
    """The file's numbers count steps of its unit."""
    check_positive("step", step)
    source.microvolts = source.microvolts * step
    source.notes.append(f"step: the numbers are in steps of {step:g} {source.unit}")


def _part_trials(source: Recording, seconds: float) -> None:
    """Makes each trial a segment, so that there is a gap between any two."""
    check_positive("trial_seconds", seconds)
    rate, trials = source.sampling_rate, []
    for segment in source.segments:
        count = math.ceil((segment.stop - segment.start) / rate / seconds - 1e-9)
        borders = [min(segment.start + round(k * seconds * rate), segment.stop) for k in range(count + 1)]
        trials += [
            Segment(start, stop, segment.onset + (start - segment.start) / rate)
            for start, stop in zip(borders, borders[1:], strict=False)
        ]
    source.segments = trials


__all__ = [
    "RECORDING_SUFFIXES",
    "SPLIT_NAMES",
    "SUBJECT_PATTERN",
    "assign_splits",
    "class_names",
    "open_row",
    "read_table",
]
