"""Tables of recordings: a manifest or a folder -> one row for each recording, each person on one side of the split."""

import glob
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers.utils import logging

from ..formats.fif import part_before, read_fif_outline
from ..formats.files import FOLDERS, open_recording
from ..recordings import Recording, Segment, check_positive, is_recording
from .copies import recording_names, recording_sources
from .people import is_named, one_name_each
from .targets import SEPARATOR, Targets


logger = logging.get_logger(__name__)

# fmt: off
RECORDING_SUFFIXES = (
    ".edf", ".bdf", ".gdf", ".vhdr", ".ahdr", ".set", ".fif", ".fif.gz", ".cnt", ".mff", ".ds", ".nxe", ".lay",
)
# fmt: on
SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
COLUMN_SEPARATORS = {".csv": ",", ".tsv": "\t"}
# Of the people that are drawn for train, validation and test.
SPLIT_SHARES = (0.6, 0.2, 0.2)
PACKED_SUFFIXES = tuple(
    f"{ending}{packed}" for ending in RECORDING_SUFFIXES for packed in (".gz", ".zip", ".bz2", ".xz", ".7z", ".rar")
)
# What may differ between the names of one recording in two formats.
KIND_AND_ENDING = re.compile(r"([-_](raw|eeg|ieeg|meg|epo))?\.[a-z]+(\.gz)?$")
# MNE's names of files that are no recordings.
DERIVED_FIF = re.compile(
    r"[-_](ave|cov|fwd|inv|ica|trans|src|proj|eve|bem|sol|csd|tfr|annot|head|fiducials)\.fif(\.gz)?$", re.IGNORECASE
)
SUBJECT_PATTERN = r"sub-([A-Za-z0-9]+)"
OTHER_PEOPLE = (
    "Capitals, blanks, hyphens, leading zeros and words such as sub- make no difference. If they are other people, "
    "name their data sets in a column `dataset`, or give trust_manifest=True."
)
EVENTS_CELL = (
    'Write {"T1": "left", "T2": "right"}; in the text of a .csv file this is "{""T1"": ""left"", ""T2"": ""right""}".'
)
BIDS_RECORDING = re.compile(r"sub-[^/]+/(ses-[^/]+/)?eeg/[^/]+_eeg\.[^/]+")


def read_table(
    source: Path,
    rows: Mapping[str, str] | None = None,
    label_column: str | Sequence[str] | None = "label",
    events: Mapping[str, Any] | Sequence[str] | None = None,
    subject_pattern: str = SUBJECT_PATTERN,
) -> pd.DataFrame:
    """
    Reads a manifest, or scans a folder that has none. The arguments are those of [`load_recordings`].

    Returns:
        One row for each recording, with `path`, `recording` (its name), `subject`, `label` (of several columns a
        tuple) or `events`, and the manifest's other columns.

    Raises:
        FileNotFoundError: if `source` or a file of the manifest does not exist.
        ValueError: if columns, people or labels are missing.
    """
    if source.is_dir() and (source / "manifest.csv").is_file():
        source = source / "manifest.csv"
    if source.is_dir():
        if events is None and label_column is not None and label_columns(label_column) != ["label"]:
            raise ValueError(
                f"There is no manifest.csv in the folder {source}, so there is no column to take labels from, but "
                f"label_column is {label_column!r}. Write one, or sort the files into one folder for each class."
            )
        table = _scan_folder(source, subject_pattern, labelled=label_column is not None and events is None)
        label_column = "label" if "label" in table else None
    elif source.is_file():
        if source.suffix in COLUMN_SEPARATORS:
            _refuse_other_separator(source)
            table = pd.read_csv(source, sep=COLUMN_SEPARATORS[source.suffix], dtype=str, keep_default_na=False)
        elif source.suffix == ".jsonl":
            table = pd.DataFrame(_read_lines(source)).fillna("")
        else:
            raise ValueError(f"A manifest must be .csv, .tsv or .jsonl, but {source} is not.")
        _check_columns(table, ["file", "subject"])
        table["path"] = [str(source.parent / file) for file in table["file"]]
    else:
        raise FileNotFoundError(f"No manifest or folder at {source}.")

    for column, value in (rows or {}).items():
        _check_columns(table, [column])
        table = table[table[column] == value]
    if table.empty:
        raise ValueError(f"There is no recording in {source}" + (f" with {dict(rows)}." if rows else "."))
    parts = [path for path in table["path"] if str(part_before(Path(path))) in set(table["path"])]
    if parts:
        raise ValueError(
            f"Rows of {source} are later parts of recordings in several files, which are read with the first part: "
            f"{_some(parts)}. Take these rows out."
        )
    absent = [path for path in table["path"] if not Path(path).exists()]
    if absent:
        raise FileNotFoundError(f"{source} names recordings that do not exist: {_some(absent)}.")

    nameless = table["file"][~table["subject"].map(is_named)]
    if len(nameless):
        raise ValueError(
            f"Rows of {source} have nobody in the column subject: {_some(nameless.tolist())}. "
            f"Name the person of each recording, so that nobody is in both training and test."
        )

    table = table.copy()
    table["recording"] = recording_names(table)
    if events is not None:
        names = dict(events) if isinstance(events, Mapping) else {name: name for name in events}
        table["events"] = [names] * len(table)
    elif "events" in table and (table["events"] != "").any():
        table["events"] = [_events_of(row, source) for row in table[["file", "events"]].itertuples()]
    else:
        if label_column is not None:
            columns = label_columns(label_column)
            _check_columns(
                table,
                columns,
                "If annotations hold the labels, name them with `events`; for windows without labels give "
                "label_column=None.",
            )
            for column in columns:
                if empty := table["file"][table[column].str.strip() == ""].tolist():
                    raise ValueError(
                        f"Every recording of {source} needs a label, but the column {column!r} is empty for "
                        f"{_some(empty)}. Fill in the label, or take the row out; a recording with none of several "
                        f"labels has {SEPARATOR!r}."
                    )
            rows = table[columns].itertuples(index=False, name=None)
            table["label"] = table[columns[0]] if len(columns) == 1 else list(rows)
        elif "label" in table:
            table = table.drop(columns="label")
        table["events"] = None
    return table


def _read_lines(source: Path) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(source.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            try:
                rows.append({name: cell_text(value) for name, value in json.loads(line).items()})
            except (json.JSONDecodeError, AttributeError):
                raise ValueError(
                    f"Every line of {source} should be an object in JSON, such as "
                    f'{{"file": "a.edf", "subject": "01", "label": "rest"}}, but line {number} is {line!r}.'
                ) from None
    return rows


def _refuse_other_separator(source: Path) -> None:
    """A table with other separators would have one column, and its rows more cells than that."""
    expected = COLUMN_SEPARATORS[source.suffix]
    with source.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    other = next((sign for sign in (",", ";", "\t", "|") if sign in header), expected)
    if expected not in header and other != expected:
        raise ValueError(
            f"The columns of {source} are separated by {other!r}, but a {source.suffix} file is expected to have "
            f"{expected!r}. Save it with {expected!r} between the columns; numbers in it have a decimal point."
        )


def _check_columns(table: pd.DataFrame, columns: Iterable[str], advice: str = "") -> None:
    """Every column must be there; of one that is not, the nearest is named."""
    for column in columns:
        if column not in table:
            there = [name for name in table if name not in ("path", "recording")]  # those are ours
            nearest = get_close_matches(column, there, n=1)
            hint = f"Did you mean {nearest[0]!r}?" if nearest else ""
            message = f"There is no column {column!r}; the manifest has {', '.join(there)}. {hint} {advice}"
            raise ValueError(" ".join(message.split()))


def _events_of(row: Any, source: Path) -> dict[str, Any]:
    """The annotations of a cell of the column `events`: name -> label; of a list, each name is its own."""
    try:
        events = json.loads(row.events)
    except json.JSONDecodeError:
        events = None
    if isinstance(events, list):
        return {name: name for name in events}
    if not isinstance(events, dict):
        raise ValueError(
            f"The column 'events' of {source} should hold annotations and their labels in JSON, but row "
            f"{row.Index + 1} ({row.file}) has {row.events!r}. {EVENTS_CELL}"
        )
    return events


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def find_recordings(folder: Path) -> list[Path]:
    """
    The recordings below a folder, each once: no hidden files (`._x.edf`), nothing from inside of a recording that is
    itself a folder, no later parts of a recording in several files, no averages, covariances or solutions of MNE.

    Raises:
        ValueError: where there are none, where one is packed, or where two files have one name and different endings.
    """
    below = [path.relative_to(folder) for path in sorted(folder.rglob("*"))]
    below = [path for path in below if not any(part.startswith(".") for part in path.parts)]
    found = [folder / path for path in below if not any(up.suffix.lower() in FOLDERS for up in path.parents)]
    if (folder / "dataset_description.json").is_file():  # a BIDS root: no derivatives, no source data
        found = [path for path in found if BIDS_RECORDING.fullmatch(path.relative_to(folder).as_posix())]
    paths = {path for path in found if path.name.lower().endswith(RECORDING_SUFFIXES) and not _is_derived(path)}
    paths = sorted(path for path in paths if part_before(path) not in paths)
    packed = [
        path.name
        for path in found
        if path.name.lower().endswith(PACKED_SUFFIXES) and not {path, path.with_suffix("")} & set(paths)
    ]
    if packed:
        raise ValueError(f"Recordings below {folder} are packed: {_some(packed)}. Unpack them.")
    if not paths:
        raise ValueError(f"There is no recording below {folder}; known endings: {', '.join(RECORDING_SUFFIXES)}.")
    by_name: dict[Path, list[str]] = {}
    for path in paths:
        by_name.setdefault(path.with_name(KIND_AND_ENDING.sub("", path.name.lower())), []).append(path.name)
    twice = [" and ".join(names) for names in by_name.values() if len(names) > 1]
    if twice:
        raise ValueError(
            f"These files below {folder} have one name and seem to be one recording each, which would count twice: "
            f"{'; '.join(twice[:3])}. Take one of them out, or list the recordings in a manifest.csv."
        )
    return paths


def _is_derived(path: Path) -> bool:
    """Whether this is one of MNE's files that are no recordings, by its name and what it holds."""
    return bool(DERIVED_FIF.search(path.name)) and not read_fif_outline(path).contents & {"raw", "epochs"}


def _scan_folder(folder: Path, subject_pattern: str, labelled: bool) -> pd.DataFrame:
    """The recordings below a folder, each with the person from its path and the class from its folder's name."""
    records = []
    for path in find_recordings(folder):
        relative = path.relative_to(folder)
        subject = re.search(subject_pattern, str(relative))
        if subject is None:
            raise ValueError(
                f"The pattern {subject_pattern!r} finds no person in {relative}. Give another subject_pattern, or a "
                f"manifest.csv with the columns file and subject, so that no person is in both training and test."
            )
        record = {"file": str(relative), "path": str(path), "subject": subject[1]}
        if labelled:
            if path.parent == folder:
                raise ValueError(
                    f"{relative} is not in a folder named after its class. Sort the files into one folder for each "
                    f"class, give a manifest.csv with a label column, or name annotations with `events`."
                )
            record["label"] = path.parent.name
        records.append(record)
    return pd.DataFrame(records)


def assign_splits(
    table: pd.DataFrame,
    split_column: str = "split",
    shares: tuple[float, float, float] = SPLIT_SHARES,
    seed: int = 0,
    within_subject: bool = False,
    trust_manifest: bool = False,
) -> pd.DataFrame:
    """
    Fills the column `split` from the manifest's column, or by drawing people, and gives each person one name in the
    column `subject`: the first spelling, with `dataset/` in front where people of two data sets share it. The
    arguments are those of [`load_recordings`].

    Raises:
        ValueError: if the manifest has an unknown split, a person is in two splits without `within_subject`, or one
            recording is in two rows.
    """
    spelled = table["subject"].copy()
    table["subject"] = one_name_each(table, trust_manifest)
    spellings = spelled.groupby(table["subject"]).unique().map(" = ".join)
    if split_column in table:
        unknown = set(table[split_column]) - set(SPLIT_NAMES)
        if unknown:
            raise ValueError(
                f"The column {split_column!r} must hold {', '.join(SPLIT_NAMES)}, but has {sorted(unknown)}."
            )
        table["split"] = table[split_column].map(SPLIT_NAMES)
    else:
        table["split"] = table["subject"].map(_draw_people(table, shares, seed))
    sides = table.groupby("subject")["split"].nunique()
    if not within_subject and (sides > 1).any():
        people = spellings[sides > 1]
        raise ValueError(
            f"These people are in more than one split: {sorted(people)}. A model could recognise them instead of "
            f"learning the task. Give within_subject=True if the protocol intends this."
            + (f" {OTHER_PEOPLE}" if people.str.contains(" = ").any() else "")
        )
    if not trust_manifest:
        _refuse_repeated(table)
        several = spellings[spellings.str.contains(" = ")]
        if len(several):
            # a program reads its table several times
            logger.warning_once(f"Taken for one person: {'; '.join(several)}. {OTHER_PEOPLE}")
    return table


def _refuse_repeated(table: pd.DataFrame) -> None:
    """
    Refuses one recording in several rows: linked, spelled otherwise or copied. Parts of one file, and windows at other
    annotations of the same person, are different recordings.
    """
    for _, rows in table.groupby(recording_sources(table), sort=False):
        annotations = [set() if entry is None else set(entry) for entry in rows["events"]]
        apart = all(annotations) and sum(map(len, annotations)) == len(set.union(*annotations))
        if len(rows) == 1 or (apart and rows["subject"].nunique() == 1):
            continue
        label = rows["label"].map(lambda value: f", {value!r}") if "label" in rows else ""
        described = rows["file"] + " (" + rows["subject"] + label + ", " + rows["split"] + ")"
        raise ValueError(
            f"These rows are one recording, by path or with the same content: {', '.join(described[:5])}. Keep one "
            f"row for each recording, with one person and one label. Give trust_manifest=True if they are to be used "
            f"as different recordings."
        )


def _draw_people(table: pd.DataFrame, shares: tuple[float, float, float], seed: int) -> dict[str, str]:
    """
    Subject -> split, stratified by class if every person has one class and each class has three people or more. Where
    that cannot be done, or leaves a class of at least two people out of train, the people of each class are dealt out.
    """
    subjects = sorted(table["subject"].unique())
    if abs(sum(shares) - 1) > 1e-6 or min(shares) < 0:
        raise ValueError(f"split_shares must be three shares that sum to 1, but are {shares}.")
    if len(subjects) == 1 and max(shares) < 1:
        raise ValueError(
            "One person cannot be split by person. Give every row of the manifest a split (train, validation, test), "
            "in a column 'split', and within_subject=True."
        )
    if len(subjects) < sum(share > 0 for share in shares):
        raise ValueError(f"{len(subjects)} people cannot be split into {shares}. Give a column 'split' instead.")
    classes, fewest = pd.Series("", index=subjects), 0
    if "label" in table and (table.groupby("subject")["label"].nunique() == 1).all():
        of_subject = table.groupby("subject")["label"].first().astype(str)
        fewest = of_subject.value_counts().min()
        if fewest >= 2:  # else they may be numbers
            classes = of_subject
    strata = classes if fewest >= 3 else None

    from sklearn.model_selection import train_test_split  # slow, and reading a table needs none of it

    def divide(people: list[str], share: float) -> tuple[list[str], list[str]]:
        """Those who stay, and the share that is drawn."""
        if share in (0, 1):
            return (people, []) if share == 0 else ([], people)
        return train_test_split(
            people, test_size=share, random_state=seed, stratify=None if strata is None else strata[people]
        )

    train, validation, test = shares
    rest = validation + test
    try:
        for_train, others = divide(subjects, rest if train else 1)
        for_validation, for_test = divide(others, test / rest if rest else 0)
    except ValueError:  # too few people, of a class or in all
        return _deal_people(classes, shares, seed)
    if train and classes[for_train].nunique() < classes.nunique():
        return _deal_people(classes, shares, seed)
    drawn = {"train": for_train, "validation": for_validation, "test": for_test}
    return {person: split for split, people in drawn.items() for person in people}


def _deal_people(classes: pd.Series, shares: tuple[float, float, float], seed: int) -> dict[str, str]:
    """Subject -> split, class by class, so that train has people of every class; `classes` has each person's."""
    rng, (share, *others) = np.random.default_rng(seed), shares
    wanted = sum(other > 0 for other in others)
    if len(classes) < classes.nunique() + wanted:
        raise ValueError(
            f"{len(classes)} people of {classes.nunique()} classes are too few: train needs a person of each class, "
            f"and each of the other splits a person. Give a column 'split', or one of split_shares {shares} as 0."
        )
    decks = [rng.permutation(people.index).tolist() for _, people in classes.groupby(classes)]
    train = [deck[: max(1, round(share * len(deck)))] for deck in decks]
    while sum(map(len, decks)) - sum(map(len, train)) < wanted:
        max(train, key=len).pop()
    rest = [person for deck, kept in zip(decks, train, strict=True) for person in deck[len(kept) :]]
    tested = round(len(rest) * others[1] / sum(others)) if rest else 0
    tested = min(max(tested, int(others[1] > 0)), len(rest) - int(others[0] > 0))
    drawn = {person: "train" for kept in train for person in kept}
    for number, person in enumerate(rest):  # evenly among the others, so of every class
        is_tested = (number + 1) * tested // len(rest) > number * tested // len(rest)
        drawn[person] = "test" if is_tested else "validation"
    return drawn


def label_columns(label_column: str | Sequence[str]) -> list[str]:
    """One or several columns as a list."""
    return [label_column] if isinstance(label_column, str) else list(label_column)


def table_targets(
    table: pd.DataFrame, label_column: str | Sequence[str] | None, problem_type: str | None
) -> Targets | None:
    """
    What the windows of the recordings will be labelled with, from [`read_table`]'s table; `None` where they have no
    labels. Names are those of events in the order given, those of whole recordings in alphabetical order.
    """
    if "piece_labels" in table and table["piece_labels"].notna().any():
        rows = zip(table["piece_labels"], table["label"], strict=True)
        entries = [entry for pieces, label in rows for entry in pieces or [label]]
        return Targets.of_entries(entries, ["label"], problem_type)
    if table["events"].notna().any():
        entries = [entry for events in table["events"] for entry in events.values()]
        return Targets.of_entries(entries, ["value"], problem_type, ordered=True)
    if "label" in table:
        return Targets.of_entries(table["label"].tolist(), label_columns(label_column or "label"), problem_type)
    if problem_type is not None:
        raise ValueError(f"problem_type is {problem_type!r}, but there are no labels: give label_column or events.")
    return None


def cell_text(value: Any) -> str:
    """A value of a JSON manifest, or from Python, as the text that a table would have."""
    if isinstance(value, (list, tuple)):
        return SEPARATOR.join(map(cell_text, value)) or SEPARATOR
    if isinstance(value, dict):
        return json.dumps(value)
    return "" if value is None else str(value)


def open_row(row: Mapping[str, Any]) -> Recording:
    """
    Opens the recording of a row at `path`, or gives the one in memory that the row has as `opened`. Where the file
    itself does not say so, the row gives `sampling_rate` in hertz, `unit`, `channel_names` separated by blanks, commas
    or semicolons, `variable` and `trial` (what to read of a file that holds several things, see [`open_recording`]),
    `step` (the value of one integer step, in that unit) and `trial_seconds` (the file is a sequence of trials of this
    length; no window and no filter crosses their borders).

    Raises:
        FileNotFoundError, ValueError: as [`open_recording`]; if a number is none, or `step` or `trial_seconds` is not
            positive; if `step` has no unit, or `trial_seconds` is given for a file that has pieces of its own.
    """
    if is_recording(row.get("opened")):
        return row["opened"]
    numbers = {
        name: _number(row, name) for name in ("sampling_rate", "trial", "step", "trial_seconds") if row.get(name)
    }
    for name in {"step", "trial_seconds"} & set(numbers):
        check_positive(name, numbers[name])
    if "step" in numbers and not row.get("unit"):
        raise ValueError(
            f"The manifest's row of {row['path']} has a step, but no unit of it: fill in the column unit."
        )
    source = open_recording(
        row["path"],
        sampling_rate=numbers.get("sampling_rate"),
        channel_names=_names_in(row["channel_names"]) if row.get("channel_names") else None,
        unit=row.get("unit") or None,
        variable=row.get("variable") or None,
        trial=int(numbers["trial"]) if "trial" in numbers else None,
    )
    if "step" in numbers:
        source.microvolts = source.microvolts * numbers["step"]
        source.notes.append(f"step: the numbers are in steps of {numbers['step']:g} {source.unit}")
    if "trial_seconds" in numbers:
        if source.in_pieces:
            raise ValueError(f"{row['path']} has pieces of its own: empty the column trial_seconds of its row.")
        _part_trials(source, numbers["trial_seconds"])
    return source


def _names_in(cell: str) -> list[str]:
    """Names separated by commas or semicolons, which may have blanks inside; without either, by blanks."""
    apart = re.split(rf"[,{SEPARATOR}]", cell.strip(f" ,{SEPARATOR}"))
    return [name.strip() for name in apart] if len(apart) > 1 else cell.split()


def _number(row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row[column])
        if column == "trial" and value % 1:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"The column {column} of the manifest should hold a number such as {'3' if column == 'trial' else '250'}, "
            f"but has {row[column]!r} for {row['path']}."
        ) from None
    return value


def last_change(row: Mapping[str, Any]) -> int:
    """
    Time of the last change to a row's recording or a file that belongs to it: BIDS's table of events, a later part.
    """
    if not row["path"]:
        return 0  # in memory: the row holds the signal itself
    path = Path(row["path"])
    stem = re.sub(r"(_eeg)?\.[^/]*$", "", path.name)
    return max(other.stat().st_mtime_ns for other in path.parent.glob(f"{glob.escape(stem)}[._-]*"))


def _part_trials(source: Recording, seconds: float) -> None:
    """Makes each trial a segment, as if there were a gap between any two."""
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
    "SPLIT_SHARES",
    "SUBJECT_PATTERN",
    "assign_splits",
    "cell_text",
    "label_columns",
    "find_recordings",
    "last_change",
    "open_row",
    "read_table",
    "table_targets",
]
