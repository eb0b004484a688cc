"""The recordings of a BIDS root, a folder, a manifest, or of several files: where they are, and how they open."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..formats.files import FOLDERS
from ..recordings import Recording
from .copies import PART_COLUMNS
from .manifest import BIDS_RECORDING, SUBJECT_PATTERN, find_recordings, open_row, read_table
from .remote import address_of, is_local, path_or_url
from .targets import SEPARATOR


def list_recordings(
    sources: str | Path | Sequence[str | Path], participants: Sequence[str] | None = None
) -> tuple[Any, list[dict[str, Any]]]:
    """
    The recordings of a BIDS root, a folder, a manifest, or of several files.

    Args:
        sources: one of these, or a list of files; paths, or URLs (see [`path_or_url`]) but for manifests. A `.csv` or
            `.tsv` file is a manifest if it has the columns `file` and `subject`.
        participants: labels of people, with or without `sub-`; default everybody.

    Returns:
        The folder that all of them are in, and for each a dict with its `path`, its name `recording` (the path from
        that folder, and what part of the file is meant), `subject` (empty where nothing says who it is) and, of a
        manifest, the other columns.

    Raises:
        FileNotFoundError, ValueError: as [`read_table`] and [`find_recordings`]; for folders among several sources,
            and people who are not there.
    """
    sources = [path_or_url(source) for source in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    source = sources[0]
    if len(sources) > 1 and (mixed := [path for path in sources if _is_collection(path)]):
        raise ValueError(
            f"{mixed[0]} is a folder or a manifest, but there are {len(sources)} sources. Give one folder or "
            "manifest, or several recordings."
        )
    if not _is_collection(source):
        root = _common_folder(sources)
        rows = [{"path": path, "file": name_in(path, root)} for path in sources]
    elif source.is_file() or (source / "manifest.csv").is_file():
        if not is_local(source):
            raise ValueError(f"{address_of(source)} is or has a manifest, and these are read from local paths only.")
        table = read_table(source, label_column=None)
        rows = table.drop(columns="events").to_dict("records")
        paths = [Path(row["path"]) for row in rows]
        root = source if source.is_dir() else source.parent
        if not all(path.is_relative_to(root) and ".." not in path.relative_to(root).parts for path in paths):
            paths = [path.parent.resolve() / path.name for path in paths]
            root = _common_folder(paths)
        rows = [row | {"path": path, "file": name_in(path, root)} for row, path in zip(rows, paths, strict=True)]
    else:
        root = source
        rows = [{"path": path, "file": name_in(path, root)} for path in find_recordings(source)]
    for row in rows:
        person = re.search(SUBJECT_PATTERN, row["file"])
        row.setdefault("subject", person[1] if person else "")
        row["recording"] = ", ".join([row["file"], *(f"{part} {row[part]}" for part in PART_COLUMNS if row.get(part))])
    if participants:
        labels = {label.removeprefix("sub-") for label in participants}
        there = {row["subject"].removeprefix("sub-") for row in rows}
        if absent := sorted(labels - there):
            raise ValueError(
                f"There are no recordings of {', '.join(absent)}; there are those of "
                f"{', '.join(sorted(there - {''})) or 'nobody: no name and no manifest says who it is'}."
            )
        rows = [row for row in rows if row["subject"].removeprefix("sub-") in labels]
    return root, rows


def _is_collection(path: Any) -> bool:
    """Whether there are recordings in this folder or manifest."""
    if path.suffix.lower() in (".csv", ".tsv"):
        if not path.is_file():
            return False
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = set(re.split(r"[,;\t]", file.readline().replace('"', "").strip()))
        return {"file", "subject"} <= header
    return path.suffix.lower() == ".jsonl" or (path.is_dir() and path.suffix.lower() not in FOLDERS)


def _common_folder(paths: Sequence[Any]) -> Any:
    """The deepest folder that all of them are in; of recordings in a BIDS data set its root."""
    folder = paths[0].parent
    while not all(path.absolute().is_relative_to(folder.absolute()) for path in paths):
        folder = folder.absolute().parent
    roots = [up for up in (folder, *folder.absolute().parents) if (up / "dataset_description.json").is_file()]
    in_bids = (up for up in roots if all(BIDS_RECORDING.fullmatch(name_in(path, up)) for path in paths))
    return next(in_bids, folder)


def name_in(path: Any, root: Any) -> str:
    """The path from a folder, with slashes; both may be those of URLs."""
    if is_local(path):
        return Path(os.path.relpath(path.absolute(), root.absolute())).as_posix()
    return str(path.relative_to(root))


def open_listed(row: Mapping[str, Any], path: Path, given: Mapping[str, Any], drop: Sequence[str] = ()) -> Recording:
    """
    Opens a recording of [`list_recordings`], at `path` or its copy.

    Args:
        row: its columns say what the file does not ([`open_row`]).
        given: what its row does not say either: `sampling_rate`, `unit`, `channel_names`, `variable`, `trial`.
        drop: channels to leave out.
    """
    texts = {name: _as_cell(value) for name, value in given.items() if value is not None}
    recording = open_row(texts | {name: value for name, value in row.items() if value != ""} | {"path": str(path)})
    recording.drop_channels(drop)
    return recording


def _as_cell(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else SEPARATOR.join(value) + SEPARATOR


__all__ = ["list_recordings", "name_in", "open_listed"]
