"""
Recordings by path, by bytes, by samples and by time: which are the same under another name, or have time in common.

`manifest.py` and `windows.py` refuse these. `fingerprints.py` finds copies that were changed.
"""

import hashlib
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from datasets import Dataset, concatenate_datasets
from scipy.spatial import cKDTree


# Columns that choose a part of a file: rows that differ in them are different recordings.
PART_COLUMNS = ("variable", "trial")

# Bytes at the start, in the middle and at the end of files of one size that are compared before the whole files.
_BLOCK = 1 << 16
# Windows have the same samples where these correlate at least so much: 16 bit of an EDF file are enough. Candidates
# are found by the courses of their amplitude, whose distance in a few random projections is then below this one.
_SAME, _PROJECTIONS, _DISTANCE = 0.99, 12, 1.0
# Share of a recording's windows that another one must have as well: all may begin with the same calibration signal.
_SHARED = 0.1


def recording_names(table: pd.DataFrame) -> pd.Series:
    """The name of each row's recording: its file, and what part of it is meant where the row says so."""
    names = table["file"].astype(str)
    for column in (name for name in PART_COLUMNS if name in table):
        names = names.where(table[column] == "", names + f", {column} " + table[column].astype(str))
    return names


def recording_sources(table: pd.DataFrame) -> pd.Series:
    """
    A key for the recording of each row, the same for rows with the same samples: see [`same_files`]. Recordings in
    memory, which have no path, are all different.
    """
    on_disk = table[table["path"] != ""]
    parts = (on_disk[name] for name in PART_COLUMNS if name in table)
    keys = dict(zip(on_disk.index, zip(same_files(on_disk["path"]), *parts, strict=True), strict=True))
    return pd.Series([keys.get(number, number) for number in table.index], index=table.index)


def same_files(paths: Iterable[str | Path]) -> list[Hashable]:
    """
    A key for each path; paths with the same key lead to the same samples: through links or another spelling, or to
    copies with the same bytes. What counts is the file with the samples (of BrainVision, EEGLAB and Persyst the one
    beside the header, of EGI the one inside the folder). Empty files are all different.
    """
    files = [_file_with_samples(Path(path)) for path in paths]
    inodes = [(stat.st_dev, stat.st_ino) for stat in (file.stat() for file in files)]
    file_of = dict(zip(inodes, files, strict=True))
    alike = [list(file_of)]
    for look in (_size, _blocks, _digest):  # whole files are read only where size and some blocks agree
        alike = [group for part in alike for group in _groups(part, lambda inode, look=look: look(file_of[inode]))]
    copy_of = {inode: group[0] for group in alike for inode in group}
    return [copy_of.get(inode, inode) for inode in inodes]


def _groups(items: Iterable[Hashable], key: Callable[[Hashable], Hashable]) -> list[list]:
    """The items that share a key with another; `None` is shared by nobody."""
    found: dict[Hashable, list] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return [group for name, group in found.items() if name is not None and len(group) > 1]


def _file_with_samples(path: Path) -> Path:
    if path.is_dir():
        return path / "signal1.bin" if (path / "signal1.bin").is_file() else path
    suffix = path.suffix.lower()
    if suffix in (".vhdr", ".lay"):
        named = re.search(rb"^\s*(?:Data)?File\s*=\s*(.+?)\s*$", path.read_bytes()[:_BLOCK], re.MULTILINE)
        name = named[1].decode("utf-8", "replace").replace("$b", path.stem) if named else f"{path.stem}.eeg"
    elif suffix == ".set":
        name = f"{path.stem}.fdt"
    else:
        return path
    return path.parent / name if (path.parent / name).is_file() else path


def _size(file: Path) -> int | None:
    return (file.stat().st_size or None) if file.is_file() else None


def _blocks(file: Path) -> bytes:
    size, digest = file.stat().st_size, hashlib.blake2b(digest_size=16)
    with file.open("rb") as opened:
        for start in (0, size // 2, max(0, size - _BLOCK)):
            opened.seek(start)
            digest.update(opened.read(_BLOCK))
    return digest.digest()


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def shared_windows(splits: Mapping[str, Dataset]) -> dict[tuple[str, str], tuple[float, float]]:
    """
    Recordings with the same samples in windows of theirs, whatever their files are: for each pair the starts of the
    first such window in both, in seconds. A tenth of the windows of one of them is enough.

    Args:
        splits: windows of `load_recordings`.
    """
    windows = concatenate_datasets(list(splits.values()))
    recordings, onsets = np.asarray(windows["recording"]), np.asarray(windows["onset"])
    signals = windows.select_columns(["input_values"]).with_format("arrow")
    courses = [_course(_signal(row)) for batch in signals.iter(1000) for row in batch["input_values"]]
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    lengths = np.array([len(course) for course in courses])
    for length in set(lengths.tolist()) - {0}:
        rows = np.flatnonzero(lengths == length)
        alike = np.stack([courses[row] for row in rows])
        projections = np.random.default_rng(0).normal(size=(length, _PROJECTIONS))
        pairs = cKDTree(alike @ projections).query_pairs(_DISTANCE, output_type="ndarray")
        pairs = pairs[recordings[rows][pairs[:, 0]] != recordings[rows][pairs[:, 1]]]
        pairs = pairs[(alike[pairs[:, 0]] * alike[pairs[:, 1]]).sum(axis=1) >= _SAME]
        for pair in rows[pairs].tolist():
            one, other = sorted(pair, key=lambda row: recordings[row])
            if _same(*(_signal(signals[row]["input_values"][0]) for row in (one, other))):
                names = (str(recordings[one]), str(recordings[other]))
                found.setdefault(names, []).append((float(onsets[one]), float(onsets[other])))
    counts = dict(zip(*np.unique(recordings, return_counts=True), strict=True))
    return {
        names: min(starts)
        for names, starts in sorted(found.items())
        if len(starts) >= _SHARED * min(counts[name] for name in names)
    }


def _signal(window: pyarrow.ListScalar) -> np.ndarray:
    """`[C, T]`."""
    return window.values.flatten().to_numpy().reshape(len(window.values), -1)


def _course(signal: np.ndarray) -> np.ndarray:
    """Mean magnitude over the channels `[T]`, standardised to length 1; empty where nothing changes."""
    course = np.abs(signal).mean(axis=0)
    course = course - course.mean()
    size = np.linalg.norm(course)
    return course / size if size > 1e-6 else course[:0]


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.corrcoef(one.ravel(), other.ravel())[0, 1] >= _SAME


def overlapping_windows(
    splits: Mapping[str, Dataset], table: pd.DataFrame, seconds: float
) -> list[tuple[str, float, str, str, float, str]]:
    """
    Windows on two sides of a split that have time of one recording in common.

    Args:
        splits: windows of `load_recordings`.
        table: the recordings; rows of one file may have windows at different annotations.
        seconds: length of a window.

    Returns:
        For each recording with such windows the first two: recording, start in seconds and split of both.
    """
    sources = dict(zip(table["recording"], recording_sources(table), strict=True))
    windows = pd.concat(
        pd.DataFrame({"recording": part["recording"], "onset": part["onset"], "split": name})
        for name, part in splits.items()
    )
    found = []
    for _, rows in windows.groupby(windows["recording"].map(sources), sort=False):
        # where two of different sides overlap, so do two of different sides that follow each other
        rows = rows.sort_values("onset", kind="stable").to_records(index=False)
        for one, other in zip(rows, rows[1:], strict=False):
            if one.split != other.split and other.onset - one.onset < seconds - 1e-3:
                found.append((*one, *other))
                break
    return found


__all__ = [
    "PART_COLUMNS",
    "overlapping_windows",
    "recording_names",
    "recording_sources",
    "same_files",
    "shared_windows",
]
