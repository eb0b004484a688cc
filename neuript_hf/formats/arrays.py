"""
Files of plain numbers (.npy, .npz, .mat, .csv, .txt, .xdf): the signal, and the names, the rate and the unit as far as
the file has them.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io

from ..units import microvolts_of


SUFFIXES = (".npy", ".npz", ".mat", ".csv", ".tsv", ".txt", ".xdf")
# Names of variables and fields, in lower case without blanks and underscores.
_RATE_NAMES = ("samplingrate", "samplerate", "sfreq", "fsample", "srate", "fs", "samplingfrequency", "rate", "freq")
_NAME_NAMES = ("channelnames", "chnames", "channames", "channels", "channellabels", "chanlabels", "labels", "label")
_NAME_NAMES += ("electrodes", "chans", "names", "clab")
_UNIT_NAMES = ("units", "unit", "chanunit")
# A step between two time stamps that is longer than this, in seconds, is a gap; shorter ones are jitter.
GAP_SECONDS = 0.5
# Time stamps are rounded and jitter: a rate this close to a whole number is that number.
WHOLE_RATE_TOLERANCE = 1e-3


@dataclass
class ArrayFile:
    """
    Args:
        values: `[C, T]`, or `[n, C, T]` for pieces.
        names, sampling_rate, unit: `None` if the file does not have them.
        unit_of: units of single channels, if they differ or are part of their names.
        breaks: samples before which time is missing, with the missing seconds.
        left_out: columns that are not signal, with the reason.
        notes: for the report.
    """

    values: np.ndarray
    names: list[str] | None = None
    sampling_rate: float | None = None
    unit: str | None = None
    unit_of: list[str | None] = field(default_factory=list)
    breaks: list[tuple[int, float]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_array_file(path: Path) -> ArrayFile:
    """
    Raises:
        ValueError: where there is no array of numbers, or the package that reads it is not installed (it is named).
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _oriented(ArrayFile(np.load(path, mmap_mode="r", allow_pickle=False)))
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return _from_variables(dict(archive))
    if suffix == ".mat":
        return _from_variables(_mat_variables(path))
    return _read_xdf(path) if suffix == ".xdf" else _read_table(path)


def _mat_variables(path: Path) -> dict[str, Any]:
    try:
        return scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)
    except NotImplementedError:  # scipy's answer to version 7.3, which is HDF5
        pass
    try:
        import h5py
    except ImportError as error:
        raise ValueError("This MATLAB file is of version 7.3 (HDF5): pip install h5py.") from error
    with h5py.File(path) as file:
        return {name: _hdf5_value(file, item) for name, item in file.items() if not name.startswith("#")}


def _hdf5_value(file: Any, item: Any) -> Any:
    """MATLAB's types in HDF5: structs, cells of references, text as 16-bit numbers; arrays are stored transposed."""
    if hasattr(item, "items"):  # a group
        return {name: _hdf5_value(file, child) for name, child in item.items()}
    values = item[()]
    if item.attrs.get("MATLAB_class") == b"char":
        return "".join(map(chr, values.ravel()))
    if values.dtype == object:
        cells = np.empty(values.size, dtype=object)
        for number, reference in enumerate(values.ravel()):
            cells[number] = _hdf5_value(file, file[reference])
        return cells
    return values.T.squeeze()


def _from_variables(variables: dict[str, Any]) -> ArrayFile:
    """The largest array among variables and the fields of structs, and what the others say about it."""
    fields = dict(_flatten(variables))
    arrays = {name: value for name, value in fields.items() if _is_signal(value)}
    if not arrays:
        raise ValueError(
            f"No array of numbers with channels and samples; the file has {', '.join(fields) or 'nothing'}."
        )
    name = max(arrays, key=lambda key: np.size(arrays[key]))
    found = ArrayFile(np.asarray(arrays[name]), notes=[f"signal: the variable {name!r}"])
    rate = _first(fields, _RATE_NAMES)
    if rate is not None and np.size(rate) == 1:
        found.sampling_rate = float(np.ravel(rate)[0])
    names = _first(fields, _NAME_NAMES)
    if names is not None and np.asarray(names).dtype.kind in "OUS":
        found.names = [str(name).strip() for name in np.ravel(names)]
    unit = _first(fields, _UNIT_NAMES)
    if unit is not None and np.asarray(unit).dtype.kind in "OUS":
        units = {str(entry) for entry in np.ravel(unit)}
        found.unit = units.pop() if len(units) == 1 else None
    return _oriented(found)


def _flatten(values: Any, depth: int = 4) -> list[tuple[str, Any]]:
    """Variables and the fields of structs by their last name; a cell array of equal pieces as one array."""
    found = []
    for name, value in values.items():
        if name.startswith("__"):
            continue
        if hasattr(value, "_fieldnames"):
            value = {key: getattr(value, key) for key in value._fieldnames}
        if isinstance(value, dict):
            found += _flatten(value, depth - 1) if depth else []
            continue
        array = np.asarray(value)
        if array.dtype == object and array.size:
            items = list(array.ravel())
            if all(hasattr(item, "labels") for item in items):  # EEGLAB's chanlocs
                name, value = "labels", np.array([str(item.labels) for item in items])
            elif all(_is_signal(item) for item in items) and len({np.shape(item) for item in items}) == 1:
                value = np.stack(items) if len(items) > 1 else items[0]
        found.append((name, value))
    return found


def _is_signal(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in "iuf" and array.ndim in (2, 3) and min(array.shape) > 0 and array.shape[-1] > 1


def _first(fields: dict[str, Any], wanted: tuple[str, ...]) -> Any:
    """The first of these names among the fields, regardless of case and underscores."""
    plain = {re.sub(r"[\W_]", "", name).lower(): value for name, value in fields.items()}
    return next((plain[name] for name in wanted if name in plain), None)


def _oriented(found: ArrayFile) -> ArrayFile:
    """`[C, T]`: the channels are on the axis that fits the names or, without names, the shorter one."""
    values = found.values
    if values.ndim not in (2, 3) or values.dtype.kind not in "iuf":
        raise ValueError(
            f"Expected an array [C, T] or [n, C, T] of real numbers, got {values.dtype} {list(values.shape)}."
        )
    channels, samples = values.shape[-2:]
    fits = len(found.names) if found.names else min(channels, samples)
    if channels != fits and samples == fits:
        found.values = values.swapaxes(-1, -2)
        found.notes.append(f"signal: transposed, {samples} channels of {channels} samples")
    return found


def _read_table(path: Path) -> ArrayFile:
    """A table of text with a column for each channel; lines that begin with % or # are comments."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        comments, first = [], ""
        for line in file:
            if line[:1] in "%#":
                comments.append(line)
            elif line.strip():
                first = line
                break
        second = next((line for line in file if line.strip()), "")
    if not first:
        raise ValueError("The table is empty.")
    separator = next((mark for mark in ";\t," if mark in first), r"\s+")
    decimal = "," if separator == ";" and re.search(r"\d,\d", second) else "."
    cells = [cell.strip() for cell in re.split(r"\s+" if separator == r"\s+" else separator, first.strip())]
    numbers = [bool(re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?|nan|", cell, re.IGNORECASE)) for cell in cells]
    header = sum(numbers) < len(numbers) / 2
    table = pd.read_csv(
        path,
        sep=separator,
        decimal=decimal,
        skiprows=len(comments),
        header=0 if header else None,
        skipinitialspace=True,
        encoding="utf-8-sig",
        encoding_errors="replace",
        on_bad_lines="error",
        index_col=False,
    )
    table.columns = [str(name).strip() for name in table.columns]
    found = ArrayFile(np.empty((0, len(table))), notes=[f"table: {len(table)} rows"])
    _read_comments("".join(comments), found)
    time = next((name for name in table if re.match(r"(time|t$|sec)", name, re.IGNORECASE)), None)
    if header and time is not None:
        _read_times(table.pop(time), time, found)
    openbci = re.search(r"OpenBCI.*?channels\s*=\s*(\d+)", "".join(comments), re.DOTALL)
    signal = _signal_columns(table, int(openbci[1]) if openbci else 0, found)
    found.values = table[signal].to_numpy(dtype=float).T
    if header:
        found.names, found.unit_of = _names_and_units(signal)
    return found


def _read_comments(comments: str, found: ArrayFile) -> None:
    """`%Sample Rate = 250 Hz` and the like."""
    rate = re.search(r"sampl\w*[ _]?(?:rate|frequency)\s*[=:]\s*([\d.]+)", comments, re.IGNORECASE)
    if rate:
        found.sampling_rate = float(rate[1])
    unit = re.search(r"units?\s*[=:]\s*(\S+)", comments, re.IGNORECASE)
    if unit and microvolts_of(unit[1]):
        found.unit = unit[1]
    elif "OpenBCI" in comments:
        found.unit = "uV"  # OpenBCI's recorder writes microvolts


def _signal_columns(table: Any, openbci: int, found: ArrayFile) -> list:
    """Columns of numbers; of an OpenBCI file, which gives their number, those of the amplifier."""
    columns = list(table)
    amplifier = columns[1 : 1 + openbci]  # after the sample's number
    if openbci and len(amplifier) == openbci:
        found.left_out |= {str(name): "not from the amplifier" for name in columns if name not in amplifier}
        columns = amplifier
    numeric = [name for name in columns if pd.api.types.is_numeric_dtype(table[name])]
    found.left_out |= {str(name): "not numbers" for name in columns if name not in numeric}
    if not numeric:
        raise ValueError(f"The table has no column of numbers; its columns are {columns}.")
    return numeric


def _names_and_units(columns: list[str]) -> tuple[list[str], list[str | None]]:
    """`"Fp1 (uV)"` -> a name and its unit."""
    names, units = [], []
    for column in columns:
        match = re.fullmatch(r"(.*?)\s*[\[(]([^\])]*)[\])]", column)
        unit = match[2] if match and microvolts_of(match[2]) else None
        names.append(match[1] if unit else column)
        units.append(unit)
    return names, units


def _read_times(times: Any, name: str, found: ArrayFile) -> None:
    """Rate and gaps from a column of time stamps: seconds, milliseconds (by name or size), dates."""
    if pd.api.types.is_numeric_dtype(times):
        seconds = times.to_numpy(dtype=float)
        if re.search(r"ms|milli", name, re.IGNORECASE) or seconds[0] > 1e11:
            seconds = seconds * 1e-3
        while seconds[0] > 1e11:  # micro- or nanoseconds since 1970
            seconds = seconds * 1e-3
    else:
        stamps = pd.to_datetime(times, errors="coerce")
        seconds = (stamps - stamps.iloc[0]).dt.total_seconds().to_numpy()
    found.left_out[name] = "time stamps"
    steps = np.diff(seconds)
    if not np.isfinite(seconds).all() or len(steps) == 0 or (steps < 0).any():
        found.notes.append(f"note: the time stamps in {name!r} are not usable, they do not ascend")
        return
    gap = steps > max(GAP_SECONDS, 5 * np.median(steps))
    duration = steps[~gap].sum()
    if found.sampling_rate is not None or duration <= 0:
        return
    rate = (~gap).sum() / duration
    whole = round(rate)
    found.sampling_rate = float(whole) if abs(rate / max(whole, 1) - 1) < WHOLE_RATE_TOLERANCE else float(rate)
    found.notes.append(f"rate: {rate:.6g} Hz by the time stamps in {name!r}, taken as {found.sampling_rate:g} Hz")
    found.breaks = [(int(at) + 1, float(steps[at] - 1 / found.sampling_rate)) for at in np.flatnonzero(gap)]


def _read_xdf(path: Path) -> ArrayFile:
    try:
        import pyxdf
    except ImportError as error:
        raise ValueError("Files of type .xdf are read with pyxdf: pip install pyxdf.") from error
    streams, _ = pyxdf.load_xdf(path)
    eeg = [stream for stream in streams if stream["info"]["type"][0].upper() == "EEG"]
    if len(eeg) != 1:
        kinds = [stream["info"]["type"][0] for stream in streams]
        raise ValueError(f"Expected one stream of type EEG in the xdf file, got {len(eeg)} among {kinds}.")
    info = eeg[0]["info"]
    found = ArrayFile(np.asarray(eeg[0]["time_series"], dtype=float).T)
    found.sampling_rate = float(info["nominal_srate"][0]) or None
    description = (info["desc"][0] or {}).get("channels", [{}])[0] or {}
    channels = description.get("channel", [])
    if len(channels) == len(found.values):
        found.names = [(channel.get("label") or [""])[0] for channel in channels]
        found.unit_of = [(channel.get("unit") or [None])[0] for channel in channels]
    return found


__all__ = ["ArrayFile", "SUFFIXES", "read_array_file"]
