"""Files of plain numbers (.npy, .npz, .mat, .csv, .tsv, .txt, .xdf), each by its reader."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .array_file import ArrayFile
from .matlab import read_matlab_variables
from .tables import read_text_table
from .variables import NotRead, from_variables
from .xdf import read_xdf


SUFFIXES = (".npy", ".npz", ".mat", ".csv", ".tsv", ".txt", ".xdf")


def read_array_file(
    path: Path,
    sampling_rate: float | None = None,
    channel_names: Sequence[str] | None = None,
    variable: str | None = None,
    trial: int | None = None,
) -> ArrayFile:
    """
    Args:
        path: the file.
        sampling_rate, channel_names, variable, trial: the user's, as in [`open_recording`].

    Raises:
        ValueError: where nothing or several things in the file may be the signal, its axes or columns can't be told
            apart, or the package that reads it is not installed; says how to choose, or what to do.
    """
    suffix = path.suffix.lower()
    if suffix == ".xdf":
        if trial is not None:
            raise ValueError("A file of streams has no trials: leave trial out.")
        return read_xdf(path, sampling_rate, variable)
    if suffix not in (".npy", ".npz", ".mat"):
        if variable is not None or trial is not None:
            raise ValueError(
                "variable and trial choose among arrays (.mat, .npz, .npy, .xdf). Leave them out for a table."
            )
        return read_text_table(path, sampling_rate, channel_names)
    _check_numpy(path)
    if suffix == ".npy":
        variables = {path.stem: _numpy_array(lambda: np.load(path, mmap_mode="r", allow_pickle=False))}
    elif suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            variables = {name: _numpy_array(lambda name=name: archive[name]) for name in archive.files}
    else:
        variables = read_matlab_variables(path)
    return from_variables(variables, sampling_rate, channel_names, variable, trial, pieces_first=suffix != ".mat")


def _check_numpy(path: Path) -> None:
    """numpy takes what it does not know for a pickle, and advises to load it, which can run any program."""
    begins = {".npy": b"\x93NUMPY", ".npz": b"PK"}.get(path.suffix.lower(), b"")
    with path.open("rb") as file:
        if file.read(len(begins)) != begins:
            raise ValueError(f"This is not a {path.suffix} file of numpy: truncated, corrupt, or something else.")


def _numpy_array(load) -> object:
    """An array; what numpy has pickled is not read, since that can run any program."""
    try:
        return load()
    except ValueError as error:
        if not any(words in str(error) for words in ("Object arrays", "Python objects")):
            raise
        return NotRead("an array of objects, such as trials of unequal length. Save them as x1, x2, ...")


__all__ = ["SUFFIXES", "read_array_file"]
