"""
Any file -> a [`Recording`] with its true rate, units and gaps, and notes on whatever was unusual.

MNE opens the files. Its mistakes are corrected from the file's own header: units that it does not know and takes for
volts, readers that do not scale, gaps of EDF+D that it closes, channels of other rates that it stretches.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np

from ..electrodes import resolve_channel
from ..private_apis import signal_numbers, unit_factors
from ..recordings import Recording, check_given, check_positive, recording_from_array, recording_from_mne
from ..units import NO_UNIT, UNIT_NAMES, check_unit, microvolts_of
from .arrays import SUFFIXES as ARRAY_SUFFIXES
from .arrays import read_array_file
from .bids import read_bids_tables
from .edf import read_edf_header, segments_between, signals_of_other_rates
from .headers import bci2000_gains, brainvision_units, gdf_units, neuroscan_sizes


# Without a unit in the file, the one by which a typical channel varies this much within a second, in microvolts.
LIKELY_AMPLITUDE = (1.0, 1000.0)
# The file to open where a user names one of its companions.
_HEADERS = {".eeg": ".vhdr", ".vmrk": ".vhdr", ".amrk": ".ahdr", ".fdt": ".set"}


def open_recording(
    path: str | Path,
    *,
    sampling_rate: float | None = None,
    channel_names: Sequence[str] | None = None,
    unit: str | None = None,
) -> Recording:
    """
    Opens a recording without loading it.

    Args:
        path: a file (or folder, such as .mff) of any format that MNE reads, or .npy, .npz, .mat, .csv, .tsv, .txt,
            .xdf.
        sampling_rate: in hertz, for files that do not state it.
        channel_names: in order, for files that have none or to replace theirs.
        unit: `"uV"`, `"mV"` or `"V"`, the unit of the file's numbers, for files that do not state it or are wrong.

    Raises:
        FileNotFoundError: where nothing exists at this path.
        ValueError: where it can't be read, or something needed to understand it is missing; names the file and says
            what to do.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No recording at {path}.")
    check_unit(unit)
    suffix = path.suffix.lower()
    header = path.with_suffix(_HEADERS[suffix]) if suffix in _HEADERS else path
    header = header if header.exists() else path
    try:
        if header.is_file() and header.stat().st_size == 0:
            raise ValueError("The file is empty: 0 bytes.")
        if header.suffix.lower() in ARRAY_SUFFIXES:
            recording = _open_array_file(header, sampling_rate, channel_names, unit)
        else:
            recording = _open_with_mne(header, unit)
            check_given(recording, sampling_rate, channel_names)
    except ValueError as error:
        raise ValueError(f"{error} (file name: {path})") from error
    except Exception as error:
        raise ValueError(f"The file is truncated or corrupt: {error!r} (file name: {path})") from error
    if header != path:
        recording.notes.insert(0, f"file: {header.name}, the header of {path.name}")
    read_bids_tables(recording, path)
    return recording


# Files of arrays


def _open_array_file(
    path: Path, sampling_rate: float | None, channel_names: Sequence[str] | None, unit: str | None
) -> Recording:
    """A file of numbers; whatever it does not state must be given."""
    found = read_array_file(path)
    rate = found.sampling_rate or sampling_rate
    if rate is None:
        raise ValueError(
            "The file has no sampling rate (no time column, no variable such as fs). Give it: sampling_rate=250."
        )
    check_positive("sampling_rate", rate)
    channels = found.values.shape[-2]
    names = found.names or channel_names
    if names is None:
        raise ValueError(
            f"The file has no channel names for its {channels} channels. Give them: channel_names=['C3', 'Cz', ...]."
        )
    if len(names) != channels:
        raise ValueError(f"Got {len(names)} channel names for {channels} channels ({list(found.values.shape)}).")
    units = [unit or own or found.unit or "" for own in found.unit_of or [None] * channels]
    recording = recording_from_array(found.values, rate, names, 1.0, "")
    if found.breaks:
        recording.segments = segments_between(found.breaks, found.values.shape[-1], rate)
    recording.left_out, recording.notes = found.left_out, found.notes
    check_given(recording, sampling_rate, channel_names)
    _apply_units(recording, units, np.ones(channels))
    return recording


# Files that MNE reads


def _open_with_mne(path: Path, unit: str | None) -> Recording:
    """Chooses the reader by the ending and the first bytes, and corrects its mistakes."""
    suffix, start = path.suffix.lower(), _first_bytes(path)
    if suffix in (".edf", ".bdf", ".rec") or start[:8] == b"\xffBIOSEMI":
        return _open_edf(path, unit)
    if re.search(r"[-_]epo(-\d+)?\.fif(\.gz)?$", path.name.lower()):
        source = _read(mne.read_epochs, path)
    elif suffix == ".cnt":
        source = _read_cnt(path, start)
    elif suffix == ".dat" and (b"BCI2000V" in start or start.startswith(b"HeaderLen")):
        source, gains = _read(mne.io.read_raw_bci2k, path, preload=True), bci2000_gains(path)
        # further channels, such as triggers, have no gain
        gains += [1.0] * (len(source.ch_names) - len(gains))
        return _with_units(source, ["uV"] * len(source.ch_names), 1 / np.array(gains), unit)
    elif suffix == ".dat":
        source = _read(mne.io.read_raw_curry, path)
    elif suffix == ".raw":
        source = _read(mne.io.read_raw_egi, path)
    elif suffix == ".data":
        source = _read(mne.io.read_raw_nicolet, path, ch_type="eeg")
    elif suffix == ".set":
        return _open_eeglab(path, unit)
    else:
        source = _read(mne.io.read_raw, path)
    if suffix in (".vhdr", ".ahdr"):
        units, factors = brainvision_units(path), np.array([channel["range"] for channel in source.info["chs"]])
        return _with_units(source, units + ["V"] * (len(source.ch_names) - len(units)), factors, unit)
    if suffix == ".gdf":
        units = gdf_units(path)
        return _with_units(source, [units[k] for k in signal_numbers(source)], unit_factors(source), unit)
    if suffix == ".nxe":
        # the amplifier's step is 0.0763 microvolts; MNE up to 1.13 returns the number of steps as volts
        scaled = np.array([1e-6 if channel["cal"] < 1e-4 else 1.0 for channel in source.info["chs"]])
        return _with_units(source, ["uV"] * len(source.ch_names), scaled, unit)
    return _with_units(source, ["V"] * len(source.ch_names), np.ones(len(source.ch_names)), unit)


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        return b""
    with path.open("rb") as file:
        return file.read(64)


def _read(reader: Callable, path: Path, **options) -> Any:
    """
    Calls one of MNE's readers.

    Raises:
        ValueError: with MNE's reason, or the package to install if the reader needs one.
    """
    try:
        return reader(path, **({"preload": False, "verbose": "ERROR"} | options))
    except UnicodeDecodeError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        package = re.search(r"module (?:named )?'?([A-Za-z_]\w*)\S* is needed|No module named '(\w+)", text)
        if package:
            name = package[1] or package[2]
            raise ValueError(
                f"Reading this format takes a package that is not installed: pip install {name}."
            ) from error
        raise ValueError(f"MNE can't read the file, it may be truncated or corrupt: {text}") from error


def _open_edf(path: Path, unit: str | None) -> Recording:
    """EDF and BDF: channels of the EEG's own rate, units in every spelling, gaps by the clock of the records."""
    header = read_edf_header(path)
    left_out = signals_of_other_rates(header)
    reader = mne.io.read_raw_bdf if header.sample_bytes == 3 else mne.io.read_raw_edf
    options = {"exclude": [header.labels[k] for k in left_out]}
    try:
        source, encoding = _read(reader, path, **options), "utf8"
    except UnicodeDecodeError:
        source, encoding = _read(reader, path, encoding="latin1", **options), "latin1"
    units = [header.units[k] for k in signal_numbers(source)]
    recording = _with_units(source, units, unit_factors(source), unit)
    recording.left_out = {header.labels[k]: reason for k, reason in left_out.items()}
    if header.promised_records not in (header.records, -1):
        recording.notes.append(
            f"note: the header promises {header.promised_records} records, the file has {header.records}: it is "
            "truncated, or the recording was not closed"
        )
    if recording.gaps:
        # MNE drops those after the end of the joined signal; they count by the clock, which does not stop in a gap
        annotations = mne.read_annotations(path, encoding=encoding)
        recording.events = [(float(a["onset"]), float(a["duration"]), a["description"]) for a in annotations]
    return recording


def _read_cnt(path: Path, start: bytes) -> Any:
    """Neuroscan and ANT share the ending .cnt."""
    if start[:4] in (b"RIFF", b"RF64"):
        return _read(mne.io.read_raw_ant, path)
    try:
        return _read(mne.io.read_raw_cnt, path)
    except ValueError as error:
        channels, samples, size = neuroscan_sizes(path)
        raise ValueError(
            f"MNE can't read this Neuroscan .cnt file: its header gives {samples} as number of samples of {channels} "
            f"channels, for which the file has {size} bytes ({error})."
        ) from error


def _open_eeglab(path: Path, unit: str | None) -> Recording:
    """EEGLAB's convention is microvolts, but it writes whatever it was given."""
    try:
        source = _read(mne.io.read_raw_eeglab, path)
    except ValueError as error:
        if "trials" not in str(error):
            raise
        raise ValueError(
            "The file contains epochs, not a continuous recording. Read them with mne.read_epochs_eeglab and give the "
            "extractor the Epochs."
        ) from error
    factors = np.full(len(source.ch_names), 1e-6)
    recording = _with_units(source, ["uV"] * len(source.ch_names), factors, unit)
    eeg = [k for k, kind in enumerate(recording.types) if kind == "eeg"]
    if unit is None and eeg:
        _find_unit_by_size(recording, eeg, convention="uV")
    return recording


# Units


def _with_units(source: Any, units: list[str], factors: np.ndarray, unit: str | None) -> Recording:
    """
    A Raw or Epochs as a recording.

    Args:
        units: of each channel, as the file's header spells them.
        factors: what the source gives for one of these units.
        unit: the user's, which overrides the file's.
    """
    recording = recording_from_mne(source, np.ones(len(units)), "")
    voltage = [microvolts_of(text) is not None for text in units]
    # MNE gives channels whose unit it does not know the type misc
    recording.types = ["eeg" if k == "misc" and v else k for k, v in zip(recording.types, voltage, strict=True)]
    if unit is not None:
        units = [unit] * len(units)
    _apply_units(recording, units, factors)
    return recording


def _apply_units(recording: Recording, units: list[str], factors: np.ndarray) -> None:
    """Sets `microvolts`, `unit`, and the types of channels that are not voltages; a missing unit is found by size."""
    unlabelled = []
    for index, (text, name) in enumerate(zip(units, recording.names, strict=True)):
        scale = microvolts_of(text)
        if scale is not None:
            recording.microvolts[index] = scale / factors[index]
        elif text.strip().lower() not in NO_UNIT:
            recording.types[index] = f"unit {text}, which is not a voltage"
        else:
            recording.microvolts[index] = 1 / factors[index]
            if recording.types[index] == "eeg" and not resolve_channel(name).startswith("non-eeg"):
                unlabelled.append(index)
    if unlabelled:
        _find_unit_by_size(recording, unlabelled)
    eeg = [text for text, kind in zip(units, recording.types, strict=True) if kind == "eeg" and microvolts_of(text)]
    counts = Counter(UNIT_NAMES[microvolts_of(text)] for text in eeg)
    recording.unit = ", ".join(unit for unit, _ in counts.most_common()) or recording.unit


def _find_unit_by_size(recording: Recording, channels: list[int], convention: str | None = None) -> None:
    """
    Sets the unit by how much a typical channel varies within a second, with a note.

    Raises:
        ValueError: where the size fits no unit.
    """
    typical = _typical_amplitude(recording, channels)
    least, most = LIKELY_AMPLITUDE
    fitting = [u for u in (convention or "uV", "mV", "V") if least <= typical * microvolts_of(u) <= most]
    what = "no unit in the file" if convention is None else f"{convention} by the format's convention"
    if convention is not None and (fitting[:1] == [convention] or typical == 0):
        recording.notes.append(f"unit: {what}")
        return
    if not fitting and typical > 0:
        raise ValueError(
            f"The unit field is empty, and a typical channel varies by {typical:.2g} within a second, which is EEG in "
            "neither uV, mV nor V. Give the unit: unit='uV'."
        )
    unit = fitting[0] if fitting else "uV"
    recording.microvolts[channels] *= microvolts_of(unit)
    recording.unit = unit
    recording.notes.append(
        f"note: {what}; a typical channel varies by {typical:.2g} within a second, so the numbers are taken as "
        f"{unit}. Give unit= to be sure"
    )


def _typical_amplitude(recording: Recording, channels: list[int]) -> float:
    """Median over channels and some seconds of the robust spread within a second, as `recording.microvolts` scales."""
    rate = max(2, round(recording.sampling_rate))
    if recording.in_pieces:
        blocks = np.moveaxis(recording.read_pieces(channels), 1, 0).reshape(len(channels), -1)
        seconds = [blocks[:, k : k + rate] for k in range(0, blocks.shape[1], rate)][:60]
    else:
        starts = np.concatenate(
            [np.arange(s.start, max(s.start + 1, s.stop - rate), rate) for s in recording.segments]
        )
        chosen = starts[np.unique(np.linspace(0, len(starts) - 1, min(20, len(starts))).astype(int))]
        end = recording.segments[-1].stop
        seconds = [recording.read(channels, start, min(start + rate, end)) for start in chosen]
    spreads = [np.subtract(*np.nanpercentile(np.where(np.isfinite(s), s, np.nan), [75, 25], axis=-1)) for s in seconds]
    return float(np.nanmedian(spreads)) / 1.349


__all__ = ["open_recording"]
