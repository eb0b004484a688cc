"""
Any file -> a [`Recording`] with its true rate, units and gaps, and notes on whatever was unusual.

MNE opens the files. Its mistakes are corrected from the file's own header: units that it does not know and takes for
volts, readers that do not scale, gaps of EDF+D that it closes, channels of other rates that it stretches.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np

from ..electrodes import resolve_channel
from ..private_apis import signal_numbers, unit_factors
from ..recordings import Recording, check_given, check_positive, cut_holes, recording_from_array, recording_from_mne
from ..units import MICROVOLTS, NO_UNIT, UNIT_NAMES, check_unit, microvolts_of
from .arrays import SUFFIXES as ARRAY_SUFFIXES
from .arrays import read_array_file
from .bids import read_bids_tables
from .edf import (
    COARSE_STEP,
    EDFHeader,
    coarse_signals,
    corrected_copy,
    read_edf_header,
    segments_between,
    signals_of_other_rates,
    signals_outside_their_range,
    signals_without_scale,
)
from .fif import part_before, read_fif_outline
from .headers import (
    bci2000_gains,
    brainvision_units,
    check_brainvision_data,
    check_data_file,
    gdf_ranges,
    gdf_units,
    neuroscan_sizes,
    ranges_that_cannot_be,
)
from .signatures import refuse_foreign_content


# Without a unit in the file, the one by which a typical channel varies this much within a second, in microvolts. No
# number fits two units. About a hundred real recordings vary by 4 to 80, noisy ones by 260.
LIKELY_AMPLITUDE = (1.0, 300.0)
# A unit that the format prescribes is kept within what the extractor accepts.
POSSIBLE_AMPLITUDE = (0.2, 2000.0)
# The file to open where a user names one of its companions.
_HEADERS = {".eeg": ".vhdr", ".vmrk": ".vhdr", ".amrk": ".ahdr", ".fdt": ".set", ".dat": ".lay"}
# Recordings that are folders, by their endings.
FOLDERS = (".mff", ".ds")


def open_recording(
    path: str | Path,
    *,
    sampling_rate: float | None = None,
    channel_names: Sequence[str] | None = None,
    unit: str | None = None,
    variable: str | None = None,
    trial: int | None = None,
) -> Recording:
    """
    Opens a recording without loading it.

    Args:
        path: a file (or folder, such as .mff) of any format that MNE reads, or .npy, .npz, .mat, .csv, .tsv, .txt,
            .xdf.
        sampling_rate: in hertz, for files that do not state it, or whose header can't be right. Where an EDF file has
            EEG channels of several rates, it chooses.
        channel_names: in order, for files that have none or to replace theirs.
        unit: `"uV"`, `"mV"` or `"V"`, the unit of the file's numbers, for channels that state none. Where all state
            one, it takes the place of these, and a note says so.
        variable: name of the array (.mat, .npz) or stream (.xdf) to read where a file has several; with `*` for the
            trials of one recording, such as `"x_eeg*"`.
        trial: number of the only trial to read, from 0, where a file of arrays has several.

    Raises:
        FileNotFoundError: where nothing exists at this path.
        ValueError: where it can't be read, or something needed to understand it is missing; names the file and says
            what to do.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No recording at {path}.")
    check_unit(unit)
    header = _header_of(path)
    try:
        _check_is_recording(header)
        if header.suffix.lower() in ARRAY_SUFFIXES:
            recording = _open_array_file(header, sampling_rate, channel_names, unit, variable, trial)
        elif variable is not None or trial is not None:
            raise ValueError("variable and trial choose among arrays (.mat, .npz, .npy, .xdf). Leave them out here.")
        else:
            recording = _open_with_mne(header, sampling_rate, unit)
            _check_signal(recording)
            check_given(recording, sampling_rate, channel_names)
        if header != path:
            recording.notes.insert(0, f"file: {header.name}, which {path.name} belongs to")
        read_bids_tables(recording, path)
        cut_holes(recording)
    except ValueError as error:
        raise ValueError(f"{' '.join(str(error).split())} (file name: {path})") from error
    except PermissionError:
        raise
    except Exception as error:
        raise ValueError(f"The file is truncated or corrupt: {error!r} (file name: {path})") from error
    return recording


def _header_of(path: Path) -> Path:
    """The file or folder to open for a path: of a recording in several files the one that names the others."""
    for folder in path.parents:
        if folder.suffix.lower() in FOLDERS:
            return folder
    suffix = path.suffix.lower()
    header = path.with_suffix(_HEADERS[suffix]) if suffix in _HEADERS else path
    return header if header.exists() else path


def _check_is_recording(path: Path) -> None:
    """Refuses folders of recordings, empty files, and files that are something else than their ending says."""
    if path.is_file():
        if path.stat().st_size == 0:
            raise ValueError("The file is empty: 0 bytes.")
        refuse_foreign_content(path)
        header = _HEADERS.get(path.suffix.lower())
        if header in (".vhdr", ".ahdr", ".set") and not _is_nihon_kohden(path):
            raise ValueError(
                f"This is one of several files of a recording, without its header: open the {header} file."
            )
    elif path.suffix.lower() not in FOLDERS:
        files = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
        raise ValueError(
            f"This is a folder, not a recording; it holds {_some(files) or 'nothing'}. Open one of these, or give the "
            "folder to load_recordings."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# Files of arrays


def _open_array_file(
    path: Path,
    sampling_rate: float | None,
    channel_names: Sequence[str] | None,
    unit: str | None,
    variable: str | None,
    trial: int | None,
) -> Recording:
    """A file of numbers; whatever it does not state must be given."""
    if sampling_rate is not None:
        check_positive("sampling_rate", sampling_rate)
    found = read_array_file(path, sampling_rate, channel_names, variable, trial)
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
            + " Or, if a row is a channel, transpose the table." * (channels > found.values.shape[-1])
        )
    if len(names) != channels:
        raise ValueError(f"Got {len(names)} channel names for {channels} channels ({list(found.values.shape)}).")
    recording = recording_from_array(found.values, rate, names, 1.0, "")
    if found.breaks:
        recording.segments = segments_between(found.breaks, found.values.shape[-1], rate)
    recording.events, recording.left_out, recording.notes = found.events, found.left_out, found.notes
    check_given(recording, sampling_rate, None if found.names_given else channel_names)
    units = [own or found.unit or "" for own in found.unit_of or [None] * channels]
    _apply_units(recording, _with_given_unit(recording, units, unit), np.ones(channels))
    return recording


# Files that MNE reads


def _open_with_mne(path: Path, sampling_rate: float | None, unit: str | None) -> Recording:
    """Chooses the reader by the ending and the first bytes, and corrects its mistakes."""
    suffix, start = path.suffix.lower(), _first_bytes(path)
    if suffix in (".edf", ".bdf", ".rec"):
        return _open_edf(path, sampling_rate, unit)
    if path.name.lower().endswith((".fif", ".fif.gz")):
        return _open_fif(path, unit)
    if suffix == ".cnt":
        source = _read_cnt(path, start)
    elif suffix == ".dat" and (b"BCI2000V" in start or start.startswith(b"HeaderLen")):
        source, gains = _read(mne.io.read_raw_bci2k, path, preload=True), bci2000_gains(path)
        units = ["uV" if gains else ""] * len(source.ch_names)
        # further channels, such as triggers, have no gain
        gains += [1.0] * (len(source.ch_names) - len(gains))
        return _with_units(source, units, 1 / np.array(gains), unit)
    elif suffix == ".dat":
        source = _read(mne.io.read_raw_curry, path)
    elif suffix == ".raw":
        source = _read(mne.io.read_raw_egi, path)
    elif suffix == ".data":
        source = _read(mne.io.read_raw_nicolet, path, ch_type="eeg")
    elif suffix == ".set":
        return _open_eeglab(path, unit)
    elif suffix in (".vhdr", ".ahdr"):
        return _open_brainvision(path, unit)
    else:
        source = _read(mne.io.read_raw, path)
    if suffix == ".gdf":
        units = gdf_units(path)
        without_scale = ranges_that_cannot_be(units, *gdf_ranges(path))
        if len(without_scale) == len(units):
            raise ValueError(
                f"The header does not say how many microvolts a step is: it has {without_scale[0]}. Correct it."
            )
        units = [units[k] for k in signal_numbers(source)]
        return _with_units(source, units, unit_factors(source), unit, without_scale)
    if suffix == ".nxe":
        # the amplifier's step is 0.0763 microvolts; MNE up to 1.13 returns the number of steps as volts
        scaled = np.array([1e-6 if channel["cal"] < 1e-4 else 1.0 for channel in source.info["chs"]])
        return _with_units(source, ["uV"] * len(source.ch_names), scaled, unit)
    return _with_units(source, ["V"] * len(source.ch_names), np.ones(len(source.ch_names)), unit)


def _check_signal(recording: Recording) -> None:
    """Refuses a rate that can't be, and a file whose last sample can't be read: it is shorter than its header says."""
    rate = recording.sampling_rate
    if not 1 <= rate <= 1e6:
        raise ValueError(f"The header gives a sampling rate of {rate:g} Hz, which can't be. Correct the header.")
    if not recording.in_pieces:
        end = recording.segments[-1].stop
        try:
            recording.read([0], end - 1, end)
        except Exception as error:
            raise ValueError(
                f"The file is truncated or corrupt: its header promises {end} samples, but their end can't be read."
            ) from error


def _is_nihon_kohden(path: Path) -> bool:
    """Its files end in .eeg as those of BrainVision do."""
    return path.suffix.lower() == ".eeg" and _first_bytes(path).startswith((b"EEG-", b"QI-", b"DAE"))


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
    except PermissionError:
        raise
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else str(error).replace(f"{path.parent}{os.sep}", "")
        raise ValueError(f"A file that belongs to the recording is not beside it: {missing.strip('.')}.") from error
    except Exception as error:
        text = " ".join(str(error).split()).replace(str(path), path.name) or type(error).__name__
        if "Unsupported file type" in text:
            raise ValueError(
                f"No reader is known for files that end in {path.suffix or 'nothing'}. If the ending is wrong, rename "
                "the file; if not, convert it, to EDF for example."
            ) from error
        package = re.search(
            r"module (?:named )?'?([A-Za-z_]\w*)\S* is needed|No module named '(\w+)|The (\w+) package is required",
            text,
        )
        if package:
            name = next(filter(None, package.groups()))
            raise ValueError(
                f"Reading this format takes a package that is not installed: pip install {name}."
            ) from error
        raise ValueError(f"MNE can't read the file, it may be truncated or corrupt: {text}") from error


def _open_edf(path: Path, sampling_rate: float | None, unit: str | None) -> Recording:
    """EDF and BDF: channels of the EEG's own rate, units in every spelling, gaps by the clock of the records."""
    header = read_edf_header(path, sampling_rate)
    left_out = signals_of_other_rates(header, sampling_rate)
    without_scale = signals_without_scale(header)
    reader = mne.io.read_raw_bdf if header.sample_bytes == 3 else mne.io.read_raw_edf
    options = {"exclude": [header.labels[k] for k in left_out], "preload": header.corrected}
    file = corrected_copy(path, header) if header.corrected else path
    try:
        source = _read(reader, file, **options)
    except ValueError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        file = corrected_copy(path, header) if header.corrected else path
        source = _read(reader, file, encoding="latin1", **options)
    signals = signal_numbers(source)
    recording = _with_units(source, [header.units[k] for k in signals], unit_factors(source), unit, without_scale)
    recording.left_out = {header.labels[k]: reason for k, reason in left_out.items()}
    recording.notes += _notes_on_edf(path, header, signals, left_out)
    if header.corrected:
        recording.sampling_rate = max(header.rates[k] for k in signals)
        recording.notes.append(
            f"rate: {recording.sampling_rate:g} Hz as given; the header's length of a record is wrong"
        )
    return recording


def _notes_on_edf(path: Path, header: EDFHeader, signals: list[int], left_out: Mapping[int, str]) -> list[str]:
    """What is unusual in the header; `signals` are read, the others are left out."""
    notes = []
    if header.promised_records not in (header.records, -1):
        notes.append(
            f"note: the header promises {header.promised_records} records, the file has {header.records}: it is "
            "truncated, or the recording was not closed. All records are read"
        )
    if other := Counter(f"{header.rates[k]:g} Hz" for k in left_out if k in header.eeg):
        many = ", ".join(f"{count} at {rate}" for rate, count in other.items())
        notes.append(f"note: EEG channels of several rates; {many} are left out. sampling_rate= chooses")
    if inverted := [header.labels[k] for k in signals if header.physical[k][0] > header.physical[k][1]]:
        notes.append(f"note: turned upside down, as the header's physical range says: {_some(inverted)}")
    if outside := signals_outside_their_range(path, header):
        notes.append(f"note: samples outside the header's digital range, whose scale may be wrong: {_some(outside)}")
    if coarse := coarse_signals(header):
        notes.append(
            f"note: a step of more than {COARSE_STEP:g} microvolts, whose scale may be wrong: {_some(coarse)}"
        )
    return notes


def _open_fif(path: Path, unit: str | None) -> Recording:
    """Raw or epochs by what is in the file, whatever its name, with the parts that follow in other files."""
    outline = read_fif_outline(path)
    if not outline.contents & {"raw", "epochs"}:
        what = " and ".join(sorted(outline.contents)) or "neither a signal nor epochs: it may be truncated or corrupt"
        raise ValueError(f"This FIF file holds {what}. The model takes continuous recordings (raw) and epochs.")
    last, after = path, outline.next
    while after is not None:
        last = last.with_name(after)
        if not last.is_file():
            raise ValueError(
                f"The recording goes on in {after}, which is not beside this file. Get it; if it was renamed, give it "
                "this name again."
            )
        after = read_fif_outline(last).next
    source = _read(mne.io.read_raw_fif if "raw" in outline.contents else mne.read_epochs, path)
    recording = _with_units(source, ["V"] * len(source.ch_names), np.ones(len(source.ch_names)), unit)
    recording.types = source.get_channel_types()  # someone's choice, misc included
    before = part_before(path)
    if before or outline.previous:
        recording.notes.append(
            f"note: a later part of a recording that was split; what comes before it, in "
            f"{before.name if before else outline.previous}, is not read. Open the first part for all of it"
        )
    return recording


def _open_brainvision(path: Path, unit: str | None) -> Recording:
    notes = check_brainvision_data(path)
    source = _read(mne.io.read_raw_brainvision, path)
    units, factors = brainvision_units(path), np.array([channel["range"] for channel in source.info["chs"]])
    recording = _with_units(source, units + ["V"] * (len(source.ch_names) - len(units)), factors, unit)
    recording.notes += notes
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
    data = Path(source.filenames[0])
    if data.suffix.lower() == ".fdt":
        recording.notes += check_data_file(path, path.with_name(data.name), "EEG.data")
        expected = 4 * source.n_times * len(source.ch_names)
        if data.stat().st_size > expected:
            recording.notes.append(
                f"note: {data.name} has {data.stat().st_size} bytes, of which the header describes {expected}: the "
                "rest is not read"
            )
    eeg = [k for k, kind in enumerate(recording.types) if kind == "eeg"]
    if unit is None and eeg:
        _find_unit_by_size(recording, eeg, convention="uV")
    return recording


# Units


def _with_units(
    source: Any,
    units: list[str],
    factors: np.ndarray,
    unit: str | None,
    without_scale: Mapping[int, str] | None = None,
) -> Recording:
    """
    A Raw or Epochs as a recording.

    Args:
        units: of each channel, as the file's header spells them.
        factors: what the source gives for one of these units.
        unit: the user's.
        without_scale: signals by their numbers in the file whose numbers are no voltages, with the reason.
    """
    recording = recording_from_mne(source, np.ones(len(units)), "")
    voltage = [microvolts_of(text) is not None for text in units]
    # MNE gives channels whose unit it does not know the type misc
    recording.types = ["eeg" if k == "misc" and v else k for k, v in zip(recording.types, voltage, strict=True)]
    if without_scale:
        reasons = [without_scale.get(k) for k in signal_numbers(source)]
        recording.types = [reason or kind for kind, reason in zip(recording.types, reasons, strict=True)]
    _apply_units(recording, _with_given_unit(recording, units, unit), factors)
    return recording


def _with_given_unit(recording: Recording, units: list[str], unit: str | None) -> list[str]:
    """
    The user's unit for the EEG channels whose unit is missing; if none is missing, for those whose unit is a voltage;
    if there are none of these either, for all. What it takes the place of is noted.
    """
    if unit is None:
        return units
    eeg = [
        k
        for k, (kind, name) in enumerate(zip(recording.types, recording.names, strict=True))
        if kind == "eeg" and not resolve_channel(name).startswith("non-eeg")
    ]
    missing = [k for k in eeg if units[k].strip().lower() in NO_UNIT]
    chosen = missing or [k for k in eeg if microvolts_of(units[k]) is not None] or eeg
    replaced = Counter(units[k] for k in chosen if microvolts_of(units[k]) != microvolts_of(unit))
    if not missing and replaced:
        old = ", ".join(f"{text or 'none'} ({count} channels)" for text, count in replaced.items())
        recording.notes.append(f"unit: {unit} as given, in place of the file's {old}")
    return [unit if k in chosen else text for k, text in enumerate(units)]


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
    what = "no unit in the file" if convention is None else f"no unit in the file, by convention {convention}"
    least, most = POSSIBLE_AMPLITUDE
    if convention is not None and (typical == 0 or least <= typical * microvolts_of(convention) <= most):
        recording.notes.append(f"unit: {what}")
        return
    least, most = LIKELY_AMPLITUDE
    unit = next((u for u in MICROVOLTS if least <= typical * microvolts_of(u) <= most), None)
    if unit is None and typical > 0:
        raise ValueError(
            f"There is {what}, and a typical channel varies by {typical:.2g} within a second; EEG varies by "
            f"{least:g} to {most:g} microvolts. Give the unit of the numbers if you know it (unit='uV', 'mV' or 'V'). "
            "If they are steps of an amplifier, multiply them by a step's microvolts and pass the array, unit='uV'."
        )
    unit = unit or "uV"
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
