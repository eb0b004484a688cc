"""
Any file, MNE object or array -> a [`Recording`]: signal in microvolt that is read piece by piece, with the true rate,
unit and gaps, and notes on everything that was not plain.

MNE opens the files. What it gets wrong is put right here from the file's own header: units that it does not know and
takes for volts, readers that do not scale, gaps of EDF+D that it closes, channels of other rates that it stretches.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .electrodes import resolve_channel
from .formats.arrays import SUFFIXES as ARRAY_SUFFIXES
from .formats.arrays import read_array_file
from .formats.headers import (
    NO_UNIT,
    EDFHeader,
    bci2000_gains,
    brainvision_units,
    gdf_units,
    microvolts_of,
    neuroscan_sizes,
    read_edf_header,
    record_onsets,
)


try:
    import mne
except ImportError:  # arrays work without it; files do not
    mne = None


# Where a file names no unit, the one that makes a typical channel vary by so many microvolt within a second.
LIKELY_AMPLITUDE = (1.0, 1000.0)
# What an annotation is called where samples that follow each other do not follow in time (MNE, EEGLAB, BrainVision).
_BREAK = re.compile(r"(bad|edge)[ _]?boundary|boundary|new segment/?.*", re.IGNORECASE)
_SKIPPED = re.compile(r"bad_acq_skip", re.IGNORECASE)
# The file to open where a user names one of its companions.
_HEADERS = {".eeg": (".vhdr",), ".vmrk": (".vhdr",), ".amrk": (".ahdr",), ".fdt": (".set",)}
_RATE_TOLERANCE = 1e-6
_UNIT_OF = {1e-3: "nV", 1.0: "uV", 1e3: "mV", 1e6: "V"}


@dataclass
class Segment:
    """Samples `start` to `stop` (behind the last), that follow each other in time; `onset` in seconds of the clock."""

    start: int
    stop: int
    onset: float


@dataclass
class Recording:
    """
    A recording before its signal is read.

    Args:
        source: `mne.io.Raw`, `mne.Epochs`, or array `[C, T]` or `[n, C, T]`.
        names: the channels, in the file's spelling.
        types: `"eeg"`, another of MNE's types, or why a channel is no EEG.
        sampling_rate: in hertz.
        microvolts: microvolts in one of the numbers that `source` gives, for each channel.
        unit: what these numbers are, for the report.
        segments: the parts without gaps; one for each piece where `in_pieces`.
        in_pieces: epochs or `[n, C, T]`.
        events: annotations as (onset, duration, description), seconds of the recording's clock.
        marked_bad: channels that someone marked.
        left_out: channels of the file that `source` lacks, with the reason.
        notes: for the report.
    """

    source: Any
    names: list[str]
    types: list[str]
    sampling_rate: float
    microvolts: np.ndarray
    unit: str
    segments: list[Segment]
    in_pieces: bool = False
    events: list[tuple[float, float, str]] = field(default_factory=list)
    marked_bad: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Length of the signal, gaps not counted."""
        return sum(segment.stop - segment.start for segment in self.segments) / self.sampling_rate

    @property
    def stretches(self) -> list[tuple[float, float]]:
        """Starts and ends of the segments in seconds by the clock."""
        rate = self.sampling_rate
        return [(part.onset, part.onset + (part.stop - part.start) / rate) for part in self.segments]

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Starts and ends on the clock; of no length where samples are joined and nobody knows what was between."""
        if self.in_pieces:
            return []
        stretches = self.stretches
        return [(end, start) for (_, end), (start, _) in zip(stretches, stretches[1:], strict=False)]

    def holds(self, onset: float, seconds: float) -> bool:
        """Whether a window lies inside the recording and in no gap."""
        return self.segment_of(onset, seconds) is not None

    def segment_of(self, onset: float, seconds: float) -> int | None:
        """Number of the segment that holds a window."""
        slack = 0.5 / self.sampling_rate
        for number, (start, end) in enumerate(self.stretches):
            if start - slack <= onset and onset + seconds <= end + slack:
                return number
        return None

    def read(self, channels: Sequence[int], start: int, stop: int) -> np.ndarray:
        """Samples of a continuous recording, float64 `[len(channels), stop - start]` in microvolt."""
        channels = list(channels)
        if isinstance(self.source, np.ndarray):
            signal = self.source[channels, start:stop].astype(np.float64)
        else:
            signal = self.source.get_data(picks=channels, start=start, stop=stop, verbose="ERROR")
        return signal * self.microvolts[channels, None]

    def read_pieces(self, channels: Sequence[int]) -> np.ndarray:
        """All pieces, float64 `[n, len(channels), T]` in microvolt."""
        channels = list(channels)
        if isinstance(self.source, np.ndarray):
            signal = self.source[:, channels].astype(np.float64)
        else:
            signal = self.source.get_data(picks=channels, verbose="ERROR")
        return signal * self.microvolts[channels, None]


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
        sampling_rate: in hertz, where the file has none.
        channel_names: in order, where the file has none or others.
        unit: `"uV"`, `"mV"` or `"V"`, what the file's numbers are, where it does not say so or is wrong.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it can't be read or what is needed to understand it lacks; names the file and says what to
            do.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No recording at {path}.")
    if unit is not None and microvolts_of(unit) is None:
        raise ValueError(f"unit must be 'uV', 'mV' or 'V', but is {unit!r}.")
    suffix = _suffix(path)
    header = next((path.with_suffix(end) for end in _HEADERS.get(suffix, ()) if path.with_suffix(end).exists()), path)
    try:
        if header.is_file() and header.stat().st_size == 0:
            raise ValueError("The file is empty: 0 bytes.")
        if _suffix(header) in ARRAY_SUFFIXES:
            recording = _open_array_file(header, sampling_rate, channel_names, unit)
        else:
            recording = _open_with_mne(header, unit)
            _check_given(recording, sampling_rate, channel_names)
    except ValueError as error:
        raise ValueError(f"{error} (file name: {path})") from error
    except Exception as error:
        raise ValueError(f"The file is truncated or corrupt: {error!r} (file name: {path})") from error
    if header != path:
        recording.notes.insert(0, f"file: {header.name}, the header of {path.name}")
    _read_bids_tables(recording, path)
    return recording


def _read_bids_tables(recording: Recording, path: Path) -> None:
    """
    In BIDS, `..._channels.tsv` beside `..._eeg.edf` says which channels are bad, and which are no EEG, and
    `..._events.tsv` what happened when; its events take the place of the file's own.
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
    """Rows of the table that belongs to a recording; none where there is no such table."""
    table = path.with_name(re.sub(r"_eeg\.[^/]+$", f"_{what}.tsv", path.name))
    if table == path or not table.is_file():
        return []
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _known(row: dict[str, str], *columns: str) -> str | None:
    """The first of the columns that says something; BIDS writes n/a where nothing is known."""
    return next((row[column] for column in columns if row.get(column) not in (None, "", "n/a")), None)


def _suffix(path: Path) -> str:
    """The ending that tells the format, in small letters."""
    return ".fif.gz" if path.name.lower().endswith(".fif.gz") else path.suffix.lower()


def _read(reader: Callable, path: Path, **options) -> Any:
    """
    Calls one of MNE's readers.

    Raises:
        ValueError: with MNE's reason, or the package to install where the reader needs one.
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
                f"Files of this format are read with a package that lacks: pip install {name}."
            ) from error
        raise ValueError(f"MNE can't read the file, it may be truncated or corrupt: {text}") from error


def is_recording(thing: Any) -> bool:
    """A [`Recording`]; by what it can do, because checkpoints that travel with their code hold the class twice."""
    return hasattr(thing, "read_pieces") and hasattr(thing, "segments")


def as_recording(
    recording: Any,
    *,
    sampling_rate: float | None = None,
    channel_names: Sequence[str] | None = None,
    unit: str | None = None,
) -> Recording:
    """
    A path, `Recording`, MNE object or array as a [`Recording`], with what the user says about it.

    Raises:
        ValueError: where it is none of these, lacks something, or contradicts what is said about it.
    """
    if is_recording(recording):
        return recording
    if isinstance(recording, str) or hasattr(recording, "__fspath__"):
        return open_recording(recording, sampling_rate=sampling_rate, channel_names=channel_names, unit=unit)
    if unit is not None and microvolts_of(unit) is None:
        raise ValueError(f"unit must be 'uV', 'mV' or 'V', but is {unit!r}.")
    if mne is not None and isinstance(recording, mne.io.BaseRaw | mne.BaseEpochs):
        scale = microvolts_of(unit or "V")
        found = _from_mne(recording, np.full(len(recording.ch_names), scale), _UNIT_OF[scale])
        if channel_names is not None and list(channel_names) != found.names:
            raise ValueError("channel_names differ from the recording's. Leave them out, or use raw.rename_channels.")
        _check_given(found, sampling_rate, None)
        return found
    return _from_array(recording, sampling_rate, channel_names, unit)


def _from_array(
    recording: Any, sampling_rate: float | None, channel_names: Sequence[str] | None, unit: str | None
) -> Recording:
    """Checks an array and what must be said about it."""
    try:
        array = np.asarray(recording)
    except ValueError as error:
        raise ValueError(f"Expected an array [C, T] or [n, C, T], got lists of unequal lengths: {error}") from None
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"Expected mne.io.Raw, mne.Epochs or an array of real numbers, got {type(recording).__name__} with dtype "
            f"{array.dtype}."
        )
    if array.ndim not in (2, 3):
        raise ValueError(f"Expected an array [C, T] or [n, C, T], got {array.ndim} dimensions: {list(array.shape)}.")
    if 0 in array.shape:
        raise ValueError(f"The array is empty: {list(array.shape)}.")
    given = {"sampling_rate": sampling_rate, "channel_names": channel_names, "unit": unit}
    lacking = [name for name, value in given.items() if value is None]
    if lacking:
        raise ValueError(
            f"An array needs {', '.join(lacking)}: nothing is guessed. For example sampling_rate=250, "
            "channel_names=['C3', 'Cz', 'C4'], unit='uV'."
        )
    check_positive("sampling_rate", sampling_rate)
    names = [str(name) for name in channel_names]
    if len(names) != array.shape[-2]:
        hint = " The array looks transposed." if len(names) == array.shape[-1] else ""
        raise ValueError(
            f"Got {len(names)} channel_names for an array of {array.shape[-2]} channels {list(array.shape)}.{hint}"
        )
    scale = microvolts_of(unit)
    return Recording(
        array,
        names,
        ["eeg"] * len(names),
        float(sampling_rate),
        np.full(len(names), scale),
        _UNIT_OF[scale],
        _pieces(array.shape[0], array.shape[-1], sampling_rate)
        if array.ndim == 3
        else [Segment(0, array.shape[-1], 0.0)],
        in_pieces=array.ndim == 3,
    )


def _pieces(count: int, samples: int, rate: float) -> list[Segment]:
    """Segments of pieces that are counted one after the other."""
    return [Segment(k * samples, (k + 1) * samples, k * samples / rate) for k in range(count)]


def _from_mne(source: Any, microvolts: np.ndarray, unit: str) -> Recording:
    """A Raw or Epochs object, with its annotations."""
    if not source.ch_names:
        raise ValueError("The recording is empty: it has no channels.")
    rate, samples = float(source.info["sfreq"]), len(source.times)
    in_pieces = isinstance(source, mne.BaseEpochs)
    recording = Recording(
        source,
        list(source.ch_names),
        source.get_channel_types(),
        rate,
        microvolts,
        unit,
        _pieces(len(source), samples, rate) if in_pieces else [Segment(0, samples, 0.0)],
        in_pieces=in_pieces,
        marked_bad=set(source.info["bads"]),
    )
    if not in_pieces:
        # annotations count from the measurement date where there is one, windows from the first sample
        first = source.first_time if source.annotations.orig_time is not None else 0.0
        recording.events = [
            (float(a["onset"] - first), float(a["duration"]), a["description"]) for a in source.annotations
        ]
        recording.segments = _split_at_annotations(recording.events, samples, rate)
        if type(source).__name__ in ("RawEDF", "RawBDF"):
            recording.segments = _gaps_of_edf(recording)
    return recording


def _split_at_annotations(events: list[tuple[float, float, str]], samples: int, rate: float) -> list[Segment]:
    """The parts between boundaries and skipped stretches."""
    cuts = {(0, 0), (samples, samples)}
    for onset, duration, description in events:
        start = round(onset * rate)
        if _BREAK.fullmatch(description) and 0 < start < samples:
            cuts.add((start, start))
        elif _SKIPPED.fullmatch(description):
            cuts.add((max(0, start), min(samples, round((onset + duration) * rate))))
    segments, begin = [], 0
    for start, stop in sorted(cuts):
        if start > begin:
            segments.append(Segment(begin, start, begin / rate))
        begin = max(begin, stop)
    return segments


def _check_given(recording: Recording, sampling_rate: float | None, channel_names: Sequence[str] | None) -> None:
    """What the user says about a recording that knows it too; names take the place of its own."""
    rate = recording.sampling_rate
    if sampling_rate is not None and abs(sampling_rate / rate - 1) > _RATE_TOLERANCE:
        raise ValueError(f"sampling_rate is {sampling_rate} Hz, but the recording says {rate:g} Hz. Leave it out.")
    if channel_names is None or list(channel_names) == recording.names:
        return
    if len(channel_names) != len(recording.names):
        raise ValueError(
            f"Got {len(channel_names)} channel_names for a recording of {len(recording.names)} channels: "
            f"{recording.names}."
        )
    recording.notes.append(f"names: as given, in place of {', '.join(recording.names)}")
    recording.names = [str(name) for name in channel_names]


def check_positive(name: str, value: float) -> None:
    """Raises a ValueError for anything but a positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise ValueError(f"{name} must be a positive number, but is {value!r}.")


# Files of arrays


def _open_array_file(
    path: Path, sampling_rate: float | None, channel_names: Sequence[str] | None, unit: str | None
) -> Recording:
    """A file of numbers; what it does not say must be given."""
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
    in_pieces = found.values.ndim == 3
    samples = found.values.shape[-1]
    recording = Recording(
        found.values,
        [str(name) for name in names],
        ["eeg"] * channels,
        float(rate),
        np.ones(channels),
        "",
        _pieces(len(found.values), samples, rate) if in_pieces else _split_at(found.breaks, samples, rate),
        in_pieces=in_pieces,
        left_out=found.left_out,
        notes=found.notes,
    )
    _check_given(recording, sampling_rate, channel_names)
    _apply_units(recording, units, np.ones(channels))
    return recording


def _split_at(breaks: Sequence[tuple[int, float]], samples: int, rate: float) -> list[Segment]:
    """Segments between breaks: (first sample behind it, seconds that are missing)."""
    segments, begin, clock = [], 0, 0.0
    for at, missing in [*breaks, (samples, 0.0)]:
        segments.append(Segment(begin, int(at), clock))
        clock += (at - begin) / rate + missing
        begin = at
    return segments


# Files that MNE reads


def _open_with_mne(path: Path, unit: str | None) -> Recording:
    """Chooses the reader by ending and first bytes, and puts right what it gets wrong."""
    if mne is None:
        raise ValueError("Files are read with MNE: pip install mne.")
    suffix, start = _suffix(path), _first_bytes(path)
    if suffix in (".edf", ".bdf", ".rec") or start[:8] == b"\xffBIOSEMI":
        return _open_edf(path, unit)
    if re.search(r"[-_]epo(-\d+)?\.fif(\.gz)?$", path.name.lower()):
        source = _read(mne.read_epochs, path)
    elif suffix == ".cnt":
        return _open_cnt(path, start, unit)
    elif suffix == ".dat" and (b"BCI2000V" in start or start.startswith(b"HeaderLen")):
        source = _read(mne.io.read_raw_bci2k, path, preload=True)
        return _with_units(source, ["uV"] * len(source.ch_names), 1 / _padded(bci2000_gains(path), source), unit)
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
        extras = source._raw_extras[0]
        units = gdf_units(path)
        return _with_units(source, [units[k] for k in extras["sel"]], extras["units"], unit)
    if suffix == ".nxe":
        # the amplifier's step is 0.0763 microvolt; MNE up to 1.13 gives the number as volts
        scaled = np.array([1e-6 if channel["cal"] < 1e-4 else 1.0 for channel in source.info["chs"]])
        return _with_units(source, ["uV"] * len(source.ch_names), scaled, unit)
    return _with_units(source, ["V"] * len(source.ch_names), np.ones(len(source.ch_names)), unit)


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        return b""
    with path.open("rb") as file:
        return file.read(64)


def _padded(gains: list[float], source: Any) -> np.ndarray:
    """A gain for each channel of a source that has further ones, such as triggers."""
    return np.array(gains + [1.0] * (len(source.ch_names) - len(gains)))


def _with_units(source: Any, units: list[str], factors: np.ndarray, unit: str | None) -> Recording:
    """
    A recording whose source gives `factors` for each one of the file's `units`, as its header spells them; `unit` is
    the user's word against them.
    """
    recording = _from_mne(source, np.ones(len(units)), "")
    voltage = [microvolts_of(text) is not None for text in units]
    # MNE calls channels misc whose unit it does not know
    recording.types = ["eeg" if k == "misc" and v else k for k, v in zip(recording.types, voltage, strict=True)]
    if unit is not None:
        units = [unit] * len(units)
    _apply_units(recording, units, factors)
    return recording


def _apply_units(recording: Recording, units: list[str], factors: np.ndarray) -> None:
    """Sets `microvolts`, `unit` and the types of channels that are no voltage; a unit that lacks is found by size."""
    unlabelled = []
    for index, (text, name) in enumerate(zip(units, recording.names, strict=True)):
        scale = microvolts_of(text)
        if scale is not None:
            recording.microvolts[index] = scale / factors[index]
        elif text.strip().lower() not in NO_UNIT:
            recording.types[index] = f"unit {text}, which is no voltage"
        else:
            recording.microvolts[index] = 1 / factors[index]
            if recording.types[index] == "eeg" and not resolve_channel(name).startswith("non-eeg"):
                unlabelled.append(index)
    if unlabelled:
        _find_unit_by_size(recording, unlabelled)
    eeg = [text for text, kind in zip(units, recording.types, strict=True) if kind == "eeg" and microvolts_of(text)]
    counts = Counter(_UNIT_OF[microvolts_of(text)] for text in eeg)
    recording.unit = ", ".join(unit for unit, _ in counts.most_common()) or recording.unit


def _find_unit_by_size(recording: Recording, channels: list[int], convention: str | None = None) -> None:
    """
    Sets the unit by how much a typical channel varies within a second, with a note.

    Raises:
        ValueError: where the size fits no unit.
    """
    typical = typical_amplitude(recording, channels)
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


def typical_amplitude(recording: Recording, channels: list[int]) -> float:
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


def _open_edf(path: Path, unit: str | None) -> Recording:
    """EDF and BDF: channels of the EEG's own rate, units in every spelling, gaps by the clock of the records."""
    header = read_edf_header(path)
    left_out = _of_other_rates(header)
    reader = mne.io.read_raw_bdf if header.sample_bytes == 3 else mne.io.read_raw_edf
    options = {"exclude": [header.labels[k] for k in left_out]}
    try:
        source, encoding = _read(reader, path, **options), "utf8"
    except UnicodeDecodeError:
        source, encoding = _read(reader, path, encoding="latin1", **options), "latin1"
    extras = source._raw_extras[0]
    recording = _with_units(source, [header.units[k] for k in extras["sel"]], extras["units"], unit)
    recording.left_out = {header.labels[k]: reason for k, reason in left_out.items()}
    if header.promised_records not in (header.records, -1):
        recording.notes.append(
            f"note: the header promises {header.promised_records} records, the file holds {header.records}: it is "
            "truncated, or the recording was not closed"
        )
    if recording.gaps:
        # MNE leaves out those behind the end of the joined signal; they count by the clock, which runs on in the gaps
        annotations = mne.read_annotations(path, encoding=encoding)
        recording.events = [(float(a["onset"]), float(a["duration"]), a["description"]) for a in annotations]
    return recording


def _gaps_of_edf(recording: Recording) -> list[Segment]:
    """The segments of a Raw of an EDF or BDF file by the clock of its records: MNE joins them without a word."""
    source, rate = recording.source, recording.sampling_rate
    path = Path(source.filenames[0])
    whole = len(source.filenames) == 1 and path.is_file()
    header = read_edf_header(path) if whole else None
    if header is None or not header.discontinuous or source._raw_extras[0]["max_samp"] / header.record_seconds != rate:
        return recording.segments
    missing = np.diff(record_onsets(path, header)) - header.record_seconds
    length = round(header.record_seconds * rate)
    # a cropped Raw begins at first_samp
    at = {(int(k) + 1) * length - source.first_samp: k for k in np.flatnonzero(np.abs(missing) > 0.5 / rate)}
    breaks = [(sample, float(missing[k])) for sample, k in at.items() if 0 < sample < source.n_times]
    return _split_at(breaks, source.n_times, rate) if breaks else recording.segments


def _of_other_rates(header: EDFHeader) -> dict[int, str]:
    """
    Signals that are stored at another rate than most EEG channels, with the reason: MNE would stretch them, or, where
    theirs is higher, the EEG.
    """
    rates, names = header.rates, header.labels
    signals = [k for k in range(len(names)) if k not in header.annotations]
    eeg = [
        k
        for k in signals
        if (microvolts_of(header.units[k]) or header.units[k].lower() in NO_UNIT)
        and not resolve_channel(names[k]).startswith("non-eeg")
    ]
    counts = Counter(rates[k] for k in eeg or signals)
    rate = max(counts, key=lambda value: (counts[value], value))
    kept = {names[k] for k in signals if rates[k] == rate}
    return {
        k: f"stored at {rates[k]:g} Hz, the EEG at {rate:g} Hz"
        for k in signals
        if rates[k] != rate and names[k] not in kept
    }


def _open_cnt(path: Path, start: bytes, unit: str | None) -> Recording:
    """Neuroscan and ANT share the ending .cnt."""
    if start[:4] in (b"RIFF", b"RF64"):
        source = _read(mne.io.read_raw_ant, path)
    else:
        try:
            source = _read(mne.io.read_raw_cnt, path)
        except ValueError as error:
            channels, samples, size = neuroscan_sizes(path)
            raise ValueError(
                f"MNE can't read this Neuroscan .cnt file: its header gives {samples} as number of samples of "
                f"{channels} channels, for which the file has {size} bytes ({error})."
            ) from error
    return _with_units(source, ["V"] * len(source.ch_names), np.ones(len(source.ch_names)), unit)


def _open_eeglab(path: Path, unit: str | None) -> Recording:
    """EEGLAB means microvolts, but writes what it was given."""
    try:
        source = _read(mne.io.read_raw_eeglab, path)
    except ValueError as error:
        if "trials" not in str(error):
            raise
        raise ValueError(
            "The file holds epochs, no continuous recording. Read them with mne.read_epochs_eeglab and give the "
            "extractor the Epochs."
        ) from error
    factors = np.full(len(source.ch_names), 1e-6)
    recording = _with_units(source, ["uV"] * len(source.ch_names), factors, unit)
    eeg = [k for k, kind in enumerate(recording.types) if kind == "eeg"]
    if unit is None and eeg:
        _find_unit_by_size(recording, eeg, convention="uV")
    return recording


__all__ = [
    "Recording",
    "Segment",
    "as_recording",
    "check_positive",
    "is_recording",
    "open_recording",
    "typical_amplitude",
]
