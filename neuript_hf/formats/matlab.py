"""
MATLAB's files as plain Python: structs are dictionaries, cells and arrays of structs are lists, texts are strings.

Version 7.3 is HDF5, in which arrays are stored transposed and cells as references.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io


def read_matlab_variables(path: Path) -> dict[str, Any]:
    """
    Raises:
        ValueError: for version 7.3 where h5py is not installed, and for what is no MATLAB file.
    """
    if not _is_hdf5(path):
        try:
            variables = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=False)
        except ValueError as error:
            raise ValueError(
                f"This is not a MATLAB file that can be read: truncated, corrupt, or something else ({error})."
            ) from error
        return {name: _plain(value) for name, value in variables.items() if not name.startswith("__")}
    try:
        import h5py
    except ImportError as error:
        raise ValueError("This MATLAB file is of version 7.3 (HDF5): pip install h5py.") from error
    with h5py.File(path) as file:
        return {name: _of_hdf5(file, item) for name, item in file.items() if not name.startswith("#")}


def _is_hdf5(path: Path) -> bool:
    """Version 7.3 has its mark after 512 bytes of MATLAB's own."""
    with path.open("rb") as file:
        return b"\x89HDF\r\n" in (file.read(6), file.read(506) and file.read(6))


def _plain(value: Any) -> Any:
    if hasattr(value, "_fieldnames"):
        return {name: _plain(getattr(value, name)) for name in value._fieldnames}
    array = np.asarray(value)
    if array.dtype == object:
        items = [_plain(item) for item in array.ravel(order="F")]
        structs = len(items) == 1 and isinstance(items[0], dict)
        return items[0] if structs else items
    if array.dtype.kind in "US":
        texts = [str(text) for text in array.ravel()]
        return texts[0] if len(texts) == 1 else texts
    return value


def _of_hdf5(file: Any, item: Any) -> Any:
    if hasattr(item, "items"):  # a group
        return {name: _of_hdf5(file, child) for name, child in item.items()}
    values, kind = item[()], item.attrs.get("MATLAB_class")
    if item.attrs.get("MATLAB_empty"):
        return "" if kind == b"char" else np.empty((0, 0))
    if kind == b"char":
        rows = ["".join(map(chr, row)) for row in np.atleast_2d(values.T)]
        return rows[0] if len(rows) == 1 else rows
    if values.dtype == object:
        return [_of_hdf5(file, file[reference]) for reference in values.ravel()]
    if values.dtype.names == ("real", "imag"):
        values = values["real"] + 1j * values["imag"]
    return values.T


__all__ = ["read_matlab_variables"]
