"""Recordings that are open already, or named one by one -> the table that `load_recordings` works on."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..recordings import Recording, as_recording, is_of_mne
from .manifest import cell_text
from .people import is_named


def is_table_source(source: Any) -> bool:
    """Whether this is the path of a manifest or a folder, and no recording."""
    return isinstance(source, str | os.PathLike) and not hasattr(source, "fpath")


def table_of_recordings(
    source: Any,
    subjects: Any = None,
    labels: Any = None,
    splits: Mapping[str, str] | None = None,
    dataset: str | None = None,
    labelled: bool = True,
    events: Mapping[str, Any] | Sequence[str] | None = None,
    **reading: Any,
) -> pd.DataFrame:
    """
    One row for each person of each recording, as [`read_table`] returns rows of a manifest. Of recordings in memory
    `opened` holds the signal and `path` is empty; `piece_labels` has the label of each epoch. The arguments are those
    of [`load_recordings`].

    Raises:
        ValueError: where people or labels are missing or do not fit the recordings.
    """
    alone = _is_one(source)
    items = [source] if alone else list(source)
    if not items:
        raise ValueError("There is no recording in the list.")
    people = [subjects] if alone else _one_each("subjects", subjects, items)
    answers = [labels] if alone else _one_each("labels", labels, items)
    if labels is not None and events is not None:
        raise ValueError("Labels come from `labels` or from `events`, not from both: leave one out.")
    names = dict(events) if isinstance(events, Mapping) else {name: name for name in events or ()}
    rows = []
    for number, (item, person, answer) in enumerate(zip(items, people, answers, strict=True)):
        about = f"recording {number}"
        try:
            rows += _rows_of(about, item, person, answer, names, labelled, reading)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"{about}: {error}") from error
    table = pd.DataFrame(rows)
    table["recording"] = table["file"]
    given = list(reading.keys() & set(table))  # only rows of files have these
    table[given] = table[given].fillna("")
    # annotations of continuous recordings; the events of epochs are labels of theirs
    table["events"] = [names if names and labels is None else None for labels in table["piece_labels"]]
    if table["label"].isna().all():
        table = table.drop(columns="label")
    elif table["label"].isna().any() and not names:
        without = table["file"][table["label"].isna()].tolist()
        raise ValueError(f"Every recording needs a label, but there is none of {', '.join(without[:3])}.")
    if names and table["piece_labels"].isna().any() and table["piece_labels"].notna().any():
        raise ValueError("Epochs and continuous recordings with events do not go together: load them apart.")
    if dataset:
        table["dataset"] = dataset
    if splits is not None:
        absent = sorted(set(table["subject"]) - {str(person) for person in splits})
        if absent:
            raise ValueError(f"splits must have every person, but does not name {', '.join(absent[:5])}.")
        table["split"] = table["subject"].map({str(person): split for person, split in splits.items()})
    return table


def _is_one(source: Any) -> bool:
    return (
        is_of_mne(source) or isinstance(source, Recording | np.ndarray) or hasattr(source, "fpath")
    ) and not isinstance(source, list | tuple)


def _one_each(name: str, given: Any, items: list) -> list:
    """What is given for each recording; `None` for all where nothing is given."""
    if given is None:
        return [None] * len(items)
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != len(items):
        count = len(given) if hasattr(given, "__len__") and not isinstance(given, str) else 1
        raise ValueError(f"{name} must have an entry for each of {len(items)} recordings, but has {count}.")
    return list(given)


def _rows_of(
    about: str, item: Any, person: Any, label: Any, names: Mapping[str, Any], labelled: bool, reading: dict
) -> list[dict]:
    if isinstance(item, str | os.PathLike):
        return [_row_of_file(item, person, label, labelled, names, reading)]
    pieces = _number_of_pieces(item)
    metadata = getattr(item, "metadata", None)
    if person is None and metadata is not None and "subject" in metadata:
        person = metadata["subject"]
    people = ["" if name is None else str(name) for name in _for_each_piece("subjects", person, pieces)]
    if nameless := [name for name in people if not is_named(name)]:
        raise ValueError(
            f"subjects must name the person of each recording, but there is {nameless[0]!r}. Nobody may be in both "
            "training and test. Of epochs of several people give a name for each epoch."
        )
    answers = None
    if labelled:
        answers = _labels_of(item, label, names, pieces)
    rows = []
    for name in dict.fromkeys(people):
        chosen = [index for index in range(pieces or 1) if people[index] == name]
        if names and pieces and answers is not None:
            chosen = [index for index in chosen if answers[index] is not None]
            if not chosen:
                continue
        part = item if pieces is None or len(chosen) == pieces else item[chosen]
        found = [answers[index] for index in chosen] if answers is not None else [None]
        different = list(dict.fromkeys(found))
        rows.append(
            {
                "file": about if len(set(people)) == 1 else f"{about} ({name})",
                "path": "",
                "opened": as_recording(part, **reading),
                "subject": name,
                "label": different[0] if len(different) == 1 else tuple(different),
                "piece_labels": found if pieces is not None and answers is not None else None,
            }
        )
    if not rows:
        raise ValueError(f"no epoch is of the events {list(names)}; there are {sorted(set(_event_names(item)))}.")
    return rows


def _row_of_file(path: Any, person: Any, label: Any, labelled: bool, names: Mapping[str, Any], reading: dict) -> dict:
    """A path, or a `mne_bids.BIDSPath`, which names its person."""
    person = getattr(path, "subject", None) if person is None else person
    file = str(getattr(path, "fpath", path))
    if not os.path.exists(file):
        raise FileNotFoundError(f"There is no file {file}.")
    if person is None or not is_named(str(person)):
        raise ValueError(f"subjects must name the person of {file}, so that nobody is in both training and test.")
    if labelled and label is None and not names:
        raise ValueError(
            f"{file} needs a label: give labels, or events for annotations; label_column=None is for windows without."
        )
    given = {name: value for name, value in reading.items() if value is not None}
    if "channel_names" in given:
        given["channel_names"] = ",".join(given["channel_names"])
    about = {"file": file, "path": file, "opened": None, "subject": str(person), "piece_labels": None}
    return about | {"label": None if label is None else _entry(label)} | {k: str(value) for k, value in given.items()}


def _number_of_pieces(item: Any) -> int | None:
    """Epochs, or rows of an array `[n, C, T]`; `None` for a continuous recording."""
    if isinstance(item, Recording):
        return None
    if hasattr(item, "drop_bad"):
        item.load_data()  # drops what MNE rejects, so that the epochs can be counted
        return len(item)
    return len(item) if isinstance(item, np.ndarray) and item.ndim == 3 else None


def _for_each_piece(name: str, given: Any, pieces: int | None) -> list:
    """One entry for all pieces, or an entry for each."""
    several = not isinstance(given, str | bytes | Mapping) and hasattr(given, "__len__")
    if not several or pieces is None:
        return [given] * (pieces or 1)
    if len(given) != pieces:
        raise ValueError(f"{name} must have one entry, or one for each of {pieces} epochs, but has {len(given)}.")
    return given.tolist() if hasattr(given, "tolist") else list(given)


def _labels_of(item: Any, label: Any, names: Mapping[str, Any], pieces: int | None) -> list | None:
    """The label of each piece, or of the whole recording; without one those of the events that epochs were cut at."""
    if label is not None:
        return [_entry(value) for value in _for_each_piece("labels", label, pieces)]
    if pieces is not None and hasattr(item, "event_id"):
        found = _event_names(item)
        return [_entry(names[name]) if name in names else None for name in found] if names else found
    if names and pieces is None:
        return None
    raise ValueError(
        "there is no label. Give labels, or events (names of annotations), or label_column=None for windows without."
    )


def _event_names(epochs: Any) -> list[str]:
    names = {number: name for name, number in epochs.event_id.items()}
    return [names[number] for number in epochs.events[:, 2]]


def _entry(label: Any) -> Any:
    """As a manifest has it: a text; a row of 0 and 1, or of numbers, as a tuple."""
    if isinstance(label, np.ndarray | tuple):
        return tuple(cell_text(value) for value in label)
    return cell_text(label)


__all__ = ["is_table_source", "table_of_recordings"]
