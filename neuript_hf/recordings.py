"""
A recording in memory or on disk as a [`Recording`]: a signal in microvolts that is read piece by piece, with its rate,
its gaps and its events. MNE objects and arrays become one here; files are opened in `formats/`, which the package has
and weights do not carry.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .private_apis import is_raw_edf
from .units import UNIT_NAMES, check_unit, microvolts_of


try:
    import mne
except ImportError:  # arrays work without it
    mne = None


# What an annotation is called where consecutive samples are not consecutive in time (MNE, EEGLAB, BrainVision).
_BREAK = re.compile(r"(bad|edge)[ _]?boundary|boundary|new segment/?.*", re.IGNORECASE)
_SKIPPED = re.compile(r"bad_acq_skip", re.IGNORECASE)
_RATE_TOLERANCE = 1e-6
_DISCONTINUOUS = (b"EDF+D", b"BDF+D")  # at byte 192 of the file


@dataclass
class Segment:
    """Samples `start` to `stop` (exclusive) without a gap; `onset` is their start in seconds by the clock."""

    start: int
    stop: int
    onset: float


@dataclass
class Recording:
    """
    A recording whose signal has not been read yet.

    Args:
        source: `mne.io.Raw`, `mne.Epochs`, or an array `[C, T]` or `[n, C, T]`.
        names: the channels, as the file spells them.
        types: `"eeg"`, another of MNE's types, `"dropped"`, or why a channel is not EEG.
        sampling_rate: in hertz.
        microvolts: factors that turn the numbers of `source` into microvolts, one for each channel.
        unit: the unit of these numbers, for the report.
        segments: the parts without gaps; with `in_pieces` one for each piece.
        in_pieces: whether these are epochs or an array `[n, C, T]`.
        events: annotations as (onset, duration, description), in seconds by the recording's clock.
        marked_bad: channels that someone marked as bad.
        left_out: channels of the file that `source` does not contain, with the reason.
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
        """Length of the signal without its gaps."""
        return sum(segment.stop - segment.start for segment in self.segments) / self.sampling_rate

    @property
    def stretches(self) -> list[tuple[float, float]]:
        """Start and end of each segment, in seconds by the clock."""
        rate = self.sampling_rate
        return [(part.onset, part.onset + (part.stop - part.start) / rate) for part in self.segments]

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Start and end of each gap by the clock; both are equal where a gap is known but not its length."""
        if self.in_pieces:
            return []
        stretches = self.stretches
        return [(end, start) for (_, end), (start, _) in zip(stretches, stretches[1:], strict=False)]

    def drop_channels(self, names: Sequence[str]) -> None:
        """
        Leaves channels out, as `mne.io.Raw.drop_channels` does; the report has them as left out.

        Raises:
            ValueError: for a name that the recording does not have.
        """
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise ValueError(f"There is no channel {', '.join(unknown)} to drop; the recording has {self.names}.")
        self.types = ["dropped" if name in names else kind for name, kind in zip(self.names, self.types, strict=True)]

    def holds(self, onset: float, seconds: float) -> bool:
        """Whether a window lies inside the recording without touching a gap."""
        return self.segment_of(onset, seconds) is not None

    def segment_of(self, onset: float, seconds: float) -> int | None:
        """Number of the segment that contains a window; `None` if none does."""
        slack = 0.5 / self.sampling_rate
        for number, (start, end) in enumerate(self.stretches):
            if start - slack <= onset and onset + seconds <= end + slack:
                return number
        return None

    def read(self, channels: Sequence[int], start: int, stop: int) -> np.ndarray:
        """Samples of a continuous recording, float64 `[len(channels), stop - start]` in microvolts."""
        channels = list(channels)
        if isinstance(self.source, np.ndarray):
            signal = self.source[channels, start:stop].astype(np.float64)
        else:
            signal = self.source.get_data(picks=channels, start=start, stop=stop, verbose="ERROR")
        return signal * self.microvolts[channels, None]

    def read_pieces(self, channels: Sequence[int]) -> np.ndarray:
        """All pieces, float64 `[n, len(channels), T]` in microvolts."""
        channels = list(channels)
        if isinstance(self.source, np.ndarray):
            signal = self.source[:, channels].astype(np.float64)
        else:
            signal = self.source.get_data(picks=channels, verbose="ERROR")
        return signal * self.microvolts[channels, None]


def is_recording(thing: Any) -> bool:
    """Whether this is a [`Recording`]: remote code has its own class, so `isinstance` would miss the package's."""
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
        ValueError: for anything else, and where information is missing or contradicts the recording.
        ImportError: where a file has to be read and the package is not installed (remote code).
    """
    if is_recording(recording):
        return recording
    if isinstance(recording, str) or hasattr(recording, "__fspath__"):
        try:
            from neuript_hf.formats.files import open_recording
        except ImportError as error:
            raise ImportError(
                "The code that comes with the weights does not read files: pip install neuript_hf, or open "
                f"{recording} with mne.io.read_raw and pass the Raw."
            ) from error
        return open_recording(recording, sampling_rate=sampling_rate, channel_names=channel_names, unit=unit)
    check_unit(unit)
    if mne is not None and isinstance(recording, mne.io.BaseRaw | mne.BaseEpochs):
        scale = microvolts_of(unit or "V")
        found = recording_from_mne(recording, np.full(len(recording.ch_names), scale), UNIT_NAMES[scale])
        if channel_names is not None and list(channel_names) != found.names:
            raise ValueError("channel_names differ from the recording's. Leave them out, or use raw.rename_channels.")
        check_given(found, sampling_rate, None)
        return found
    return _from_array(recording, sampling_rate, channel_names, unit)


def _from_array(
    recording: Any, sampling_rate: float | None, channel_names: Sequence[str] | None, unit: str | None
) -> Recording:
    """An array, once everything it does not say itself is given."""
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
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise ValueError(
            f"An array needs {', '.join(missing)}: nothing is guessed. For example sampling_rate=250, "
            "channel_names=['C3', 'Cz', 'C4'], unit='uV'."
        )
    check_positive("sampling_rate", sampling_rate)
    names = list(channel_names)
    if len(names) != array.shape[-2]:
        hint = " The array looks transposed." if len(names) == array.shape[-1] else ""
        raise ValueError(
            f"Got {len(names)} channel_names for an array of {array.shape[-2]} channels {list(array.shape)}.{hint}"
        )
    scale = microvolts_of(unit)
    return recording_from_array(array, sampling_rate, names, scale, UNIT_NAMES[scale])


def recording_from_array(
    array: np.ndarray, sampling_rate: float, channel_names: Sequence[str], scale: float, unit: str
) -> Recording:
    """An array `[C, T]` or `[n, C, T]` of EEG channels whose numbers times `scale` are microvolts."""
    channels, samples = array.shape[-2:]
    return Recording(
        array,
        [str(name) for name in channel_names],
        ["eeg"] * channels,
        float(sampling_rate),
        np.full(channels, scale),
        unit,
        _segments_of_pieces(len(array) if array.ndim == 3 else 1, samples, sampling_rate),
        in_pieces=array.ndim == 3,
    )


def _segments_of_pieces(count: int, samples: int, rate: float) -> list[Segment]:
    """Segments of pieces that are counted one after the other."""
    return [Segment(k * samples, (k + 1) * samples, k * samples / rate) for k in range(count)]


def recording_from_mne(source: Any, microvolts: np.ndarray, unit: str) -> Recording:
    """
    A Raw or Epochs object with its annotations.

    Args:
        source: `mne.io.Raw` or `mne.Epochs`.
        microvolts, unit: as in [`Recording`].

    Raises:
        ValueError: where it has no channels.
        ImportError: for a Raw of an EDF+D or BDF+D file where the package, which knows its gaps, is not installed.
    """
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
        _segments_of_pieces(len(source) if in_pieces else 1, samples, rate),
        in_pieces=in_pieces,
        marked_bad=set(source.info["bads"]),
    )
    if not in_pieces:
        # annotations count from the measurement date if there is one, windows from the first sample
        first = source.first_time if source.annotations.orig_time is not None else 0.0
        recording.events = [
            (float(a["onset"] - first), float(a["duration"]), a["description"]) for a in source.annotations
        ]
        recording.segments = _split_at_annotations(recording.events, samples, rate)
        if (path := _discontinuous_file(source)) is not None:
            recording.segments = _segments_by_clock(recording, path)
    return recording


def _discontinuous_file(source: Any) -> Path | None:
    """The EDF+D or BDF+D file behind a Raw, if it was read from one."""
    if not is_raw_edf(source) or len(source.filenames) != 1 or source.filenames[0] is None:
        return None
    path = Path(source.filenames[0])
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(192)
        return path if file.read(5) in _DISCONTINUOUS else None


def _segments_by_clock(recording: Recording, path: Path) -> list[Segment]:
    """The parts between the gaps of an EDF+D or BDF+D file, which MNE joins without saying so."""
    try:
        from neuript_hf.formats.edf import segments_by_clock
    except ImportError as error:
        raise ImportError(
            f"{path.name} is discontinuous (EDF+D or BDF+D). MNE joins its parts, and the code that comes with the "
            "weights cannot tell where: pip install neuript_hf. Or, if the gaps do not matter, pass "
            "mne.io.RawArray(raw.get_data(), raw.info)."
        ) from error
    return segments_by_clock(recording, path)


def _split_at_annotations(events: list[tuple[float, float, str]], samples: int, rate: float) -> list[Segment]:
    """The parts between boundaries and skipped stretches of time."""
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


def check_given(recording: Recording, sampling_rate: float | None, channel_names: Sequence[str] | None) -> None:
    """
    What the user says about a recording that has a rate and names of its own: the names replace these.

    Raises:
        ValueError: where the rate contradicts the recording's, or the number of names differs.
    """
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


__all__ = [
    "Recording",
    "Segment",
    "as_recording",
    "check_given",
    "check_positive",
    "is_recording",
    "recording_from_array",
    "recording_from_mne",
]
