"""The tables that BIDS puts beside a recording."""

import csv
import re
from pathlib import Path

from ..recordings import Recording


def read_bids_tables(recording: Recording, path: Path) -> None:
    """
    In BIDS, `..._channels.tsv` beside `..._eeg.edf` says which channels are bad and which are not EEG, and
    `..._events.tsv` what happened when; its events replace the file's own.

    Raises:
        ValueError: where an onset or a duration is not a number.
    """
    if rows := _bids_table(path, "channels"):
        rows = {row.get("name"): row for row in rows}
        for index, name in enumerate(recording.names):
            row = rows.get(name, {})
            if row.get("status") == "bad":
                recording.marked_bad.add(name)
            kind = row.get("type") or "n/a"
            if kind not in ("EEG", "n/a"):
                recording.types[index] = kind.lower()
        recording.notes.append("bad channels and types: from the channels.tsv beside the file")
    if rows := _bids_table(path, "events"):
        try:
            recording.events = [
                (
                    float(row["onset"]),
                    float(_known(row, "duration") or 0),
                    _known(row, "trial_type", "value") or "event",
                )
                for row in rows
                if _known(row, "onset")
            ]
        except ValueError as error:
            raise ValueError(f"The events.tsv beside the file is broken: {error}.") from error
        recording.notes.append(f"events: {len(recording.events)} from the events.tsv beside the file")


def _bids_table(path: Path, what: str) -> list[dict[str, str]]:
    """Rows of the table that belongs to a recording; none if there is no such table."""
    table = path.with_name(re.sub(r"_eeg\.[^/]+$", f"_{what}.tsv", path.name))
    if table == path or not table.is_file():
        return []
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _known(row: dict[str, str], *columns: str) -> str | None:
    """The first of the columns with a value; BIDS writes n/a for unknown ones."""
    return next((row[column] for column in columns if row.get(column) not in (None, "", "n/a")), None)


__all__ = ["read_bids_tables"]
