"""The tables that BIDS puts beside a recording."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..recordings import Recording, leaves_out_time


# BIDS' types as MNE calls them, where its own name is another; the rest are the same in lower case.
_TYPES = {
    "megmag": "mag",
    "meggradaxial": "grad",
    "meggradplanar": "grad",
    "megrefmag": "ref_meg",
    "megrefgradaxial": "ref_meg",
    "megrefgradplanar": "ref_meg",
    "nirscwamplitude": "fnirs_cw_amplitude",
    "nirscwopticaldensity": "fnirs_od",
    "nirscwhbo": "hbo",
    "nirscwhbr": "hbr",
}
_BIDS_NAME = re.compile(r"(.+)_(eeg|ieeg|meg|nirs)\.[^/]+")


def read_bids_tables(recording: Recording, path: Path) -> None:
    """
    In BIDS, `..._channels.tsv` of `..._eeg.edf` says which channels are bad and what type each has, and
    `..._events.tsv` what happened when. Its events replace the file's own, but for those that say which time to leave
    out (BAD, EDGE, boundaries): there, both count. Whatever does not fit together gets a note, so does another rate in
    `..._eeg.json`. Recordings may share these files.

    Raises:
        ValueError: where an onset or a duration is not a number.
    """
    _check_rate(recording, path)
    if rows := _bids_table(recording, path, "channels"):
        _read_channels(recording, rows)
    if rows := _bids_table(recording, path, "events"):
        _read_events(recording, rows)


def _check_rate(recording: Recording, path: Path) -> None:
    """A note where the `..._eeg.json` says another rate than the recording."""
    name = _BIDS_NAME.fullmatch(path.name)
    table = _find(path, f"{name[2]}.json") if name else None
    if table is None:
        return
    try:
        rate = float(json.loads(table.read_text(encoding="utf-8-sig")).get("SamplingFrequency"))
    except (ValueError, TypeError, AttributeError):
        return
    if abs(rate / recording.sampling_rate - 1) > 1e-3:
        recording.notes.append(
            f"note: {table.name} says {rate:g} Hz, the file {recording.sampling_rate:g} Hz, which is taken"
        )


def _read_channels(recording: Recording, rows: list[dict[str, str]]) -> None:
    by_name = {_known(row, "name"): row for row in rows}
    changed: dict[str, list[str]] = {}
    status: dict[str, str] = {}
    for index, name in enumerate(recording.names):
        row = by_name.get(name, {})
        status[name] = (_known(row, "status") or "good").strip().lower()
        if status[name] == "bad":
            recording.marked_bad.add(name)
        kind, before = (_known(row, "type") or "").strip().lower(), recording.types[index]
        kind = _TYPES.get(kind, kind)
        # what is not a voltage in the file does not become one by its type
        if kind and kind != before and not (kind == "eeg" and before.startswith("unit ")):
            recording.types[index] = kind
            changed.setdefault(f"{before} to {kind}", []).append(name)
    notes = [f"types: {', '.join(names)} from {how}" for how, names in changed.items()]
    recording.notes.append("; ".join(["bad channels and types: from the channels.tsv beside the file", *notes]))
    known = [*recording.names, *recording.left_out]
    for what, names in (
        ("has no row for", [name for name in recording.names if name not in by_name]),
        ("has rows for channels that the file does not have:", [str(name) for name in by_name if name not in known]),
        ("has a status that is neither good nor bad for", [k for k, v in status.items() if v not in ("good", "bad")]),
        ("has several rows, of which the last counts, for", _repeated([_known(row, "name") for row in rows])),
    ):
        if names:
            recording.notes.append(f"note: the channels.tsv {what} {', '.join(names)}")


def _read_events(recording: Recording, rows: list[dict[str, str]]) -> None:
    own, placed = recording.events, [row for row in rows if _known(row, "onset")]
    try:
        events = [
            (float(row["onset"]), float(_known(row, "duration") or 0), _known(row, "trial_type", "value") or "event")
            for row in placed
        ]
    except ValueError as error:
        raise ValueError(f"The events.tsv beside the file is broken: {error}.") from error
    kept = [event for event in own if leaves_out_time(*event) and event not in events]
    recording.events = sorted(events + kept)
    replaced = f", in place of the file's own {len(own) - len(kept)}" if len(own) > len(kept) else ""
    recording.notes.append(f"events: {len(events)} from the events.tsv beside the file{replaced}")
    unnamed = sum(_known(row, "trial_type", "value") is None for row in placed)
    for count, what in (
        (len(kept), "of the file's own are kept, as they mark time to leave out"),
        (len(rows) - len(placed), "rows without an onset are left out"),
        (unnamed, "with neither trial_type nor value are called 'event'"),
    ):
        if count:
            recording.notes.append(f"events: {count} {what}")


def _repeated(names: Sequence[str | None]) -> list[str]:
    return sorted({str(name) for name in names if names.count(name) > 1})


def _bids_table(recording: Recording, path: Path, what: str) -> list[dict[str, str]]:
    """Rows of the table that belongs to a recording; none if there is no such table. A shared one is noted."""
    table = _find(path, f"{what}.tsv")
    if table is None:
        return []
    if table != _own(path, f"{what}.tsv"):
        recording.notes.append(f"{what}: the table {table.name} counts for this recording, too")
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _own(path: Path, ending: str) -> Path:
    return path.with_name(f"{_BIDS_NAME.fullmatch(path.name)[1]}_{ending}")


def _find(path: Path, ending: str) -> Path | None:
    """
    The file of this ending with the recording's own name; or, as BIDS has it, one whose name has some of its entities
    (`task-rest`, without `split-01`), in its folder or further up in the data set: the nearest, and there the one with
    the most.
    """
    name = _BIDS_NAME.fullmatch(path.name)
    if name is None:
        return None
    if _own(path, ending).is_file():
        return _own(path, ending)
    entities = set(name[1].split("_"))
    root = next((up for up in path.parents if (up / "dataset_description.json").is_file()), path.parent)
    for folder in (up for up in path.parents if up.is_relative_to(root)):
        of = {file: set(file.name.split("_")[:-1]) for file in sorted(folder.glob(f"*_{ending}"))}
        fitting = [file for file in of if of[file] <= entities and all("-" in entity for entity in of[file])]
        if fitting:
            return max(fitting, key=lambda file: len(of[file]))
    return None


def _known(row: dict[str, str], *columns: str) -> str | None:
    """The first of the columns with a value; BIDS writes n/a for unknown ones."""
    return next((row[column] for column in columns if row.get(column) not in (None, "", "n/a")), None)


__all__ = ["read_bids_tables"]
