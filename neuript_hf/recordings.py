"""
A recording in memory or on disk as a [`Recording`]: a signal in microvolts that is read piece by piece, with its rate,
its gaps and its events. MNE objects and arrays become one here; files are opened in `formats/`, which the package has
and weights do not carry.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .private_apis import is_raw_edf, is_raw_eeglab, raw_of_epochs, raw_parts
from .units import UNIT_NAMES, check_unit, microvolts_of


try:
    import mne
except ImportError:  # arrays work without it
    mne = None


# What an annotation is called where consecutive samples are not consecutive in time (MNE, EEGLAB, BrainVision), and
# where a stretch has no signal: MNE's filters stop at the same ones.
_BREAK = re.compile(r"boundary|bad[ _]?boundary.*|new segment.*")
_BOUNDARY_OF_NUMBERS = {"-99": "boundary", "-99.0": "boundary"}
# MNE leaves out of epochs what begins like this, in any case. It marks concatenations with both words.
_REJECTED = ("bad", "edge")
# Samples that are looked at together for missing time.
_BLOCK_SAMPLES = 100_000
_RATE_TOLERANCE = 1e-6
_EDF_PLUS = (b"EDF+", b"BDF+")  # at byte 192 of files that have a clock


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
        events: annotations as (onset, duration, description), in seconds by the recording's clock; of epochs only
            those of time that should be rejected.
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

    @property
    def event_counts(self) -> Counter:
        """How many annotations of each description there are."""
        return Counter(description for *_, description in self.events)

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

    @property
    def bad_time(self) -> list[tuple[float, float, str]]:
        """Start, end and description of time that someone marked to be rejected (BAD, in any case), gaps excepted."""
        return [
            (onset, onset + duration, description)
            for onset, duration, description in self.events
            if _is_bad(description) and _hole(onset, duration, description) is None
        ]

    def bad_samples(self) -> np.ndarray:
        """Which samples lie in time marked as bad, bool `[samples]`; pieces are counted one after the other."""
        bad, stretches = np.zeros(self.segments[-1].stop, dtype=bool), np.array(self.stretches)
        for onset, end, _ in self.bad_time:
            for number in np.flatnonzero((stretches[:, 0] < end) & (stretches[:, 1] > onset)):
                segment = self.segments[number]
                first, last = (_sample_of(segment, time, self.sampling_rate) for time in (onset, end))
                bad[max(first, segment.start) : min(last, segment.stop)] = True
        return bad

    def rejected(self, onsets: Sequence[float], seconds: float, reject_by_annotation: bool) -> np.ndarray:
        """
        Which windows overlap time marked as bad, bool `[len(onsets)]`, by the rule of `mne.Epochs`: a mark without a
        length rejects the windows around it, too. Of epochs also those with a break inside, whatever is asked for.
        """
        slack = 0.5 / self.sampling_rate
        marks = [
            (event[0], event[0] + event[1])
            for event in self.events
            if (reject_by_annotation and _is_bad(event[2])) or (self.in_pieces and _hole(*event))
        ]
        starts, ends = np.sort(np.array(marks).reshape(-1, 2), axis=0).T
        onsets = np.asarray(onsets, dtype=float)
        return np.searchsorted(starts, onsets + seconds - slack) > np.searchsorted(ends, onsets + slack, "right")

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


def is_of_mne(thing: Any) -> bool:
    """Whether MNE made this, a recording or what it computes from one."""
    return type(thing).__module__.split(".")[0] == "mne"


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
    elif is_of_mne(recording):
        raise ValueError(
            f"Expected mne.io.Raw, mne.Epochs or an array, got mne's {type(recording).__name__}, which is computed "
            "from EEG but is not one. Pass the Raw or the Epochs that it was made from."
        )
    else:
        found = _from_array(recording, sampling_rate, channel_names, unit)
    cut_holes(found)
    return found


def _from_array(
    recording: Any, sampling_rate: float | None, channel_names: Sequence[str] | None, unit: str | None
) -> Recording:
    """An array, once everything it does not say itself is given."""
    if hasattr(recording, "columns"):
        raise ValueError(
            "A table of pandas has a row for each sample. Pass its channels as an array [C, T]: "
            "table[['C3', 'Cz', ...]].to_numpy().T, with sampling_rate, channel_names and unit."
        )
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
    in_pieces, notes = isinstance(source, mne.BaseEpochs), []
    if in_pieces:
        breaks = _breaks_under_epochs(source)
        source, notes = _good_epochs(source)
    rate, samples = float(source.info["sfreq"]), len(source.times)
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
        notes=notes,
    )
    if in_pieces:
        recording.events = _marks_in_pieces(source, *breaks)
    else:
        # MNE counts annotations from the amplifier's first sample, whether or not it was kept
        recording.events = [
            (float(a["onset"] - source.first_time), float(a["duration"]), a["description"]) for a in source.annotations
        ]
        if is_raw_eeglab(source):
            # its boundaries among events that are numbers
            recording.events = [
                (*event[:2], _BOUNDARY_OF_NUMBERS.get(event[2], event[2])) for event in recording.events
            ]
        _split_at_joins(recording)
    if source.annotations is not None:
        _note_single_channels(recording, source.annotations)
    return recording


def _good_epochs(epochs: Any) -> tuple[Any, list[str]]:
    """Epochs as MNE keeps them, read in a copy if it has not read them yet, with a note on those that it dropped."""
    if not epochs.preload:
        with mne.utils.use_log_level("ERROR"):
            epochs = epochs.copy().load_data()
    reasons = Counter(", ".join(why) for why in epochs.drop_log if why and "IGNORED" not in why)
    lost = ", ".join(f"{count} for {why}" for why, count in reasons.items())
    return epochs, [f"epochs: {len(epochs)} kept, MNE dropped {lost}"] if lost else []


def _breaks_under_epochs(epochs: Any) -> tuple[list[int], float]:
    """
    Where gaps are in the Raw of epochs that are still to be read, in samples as their events count them, and its rate:
    MNE's epochs reach across gaps that no annotation marks.
    """
    raw = raw_of_epochs(epochs)
    if not isinstance(raw, mne.io.BaseRaw):
        return [], 1.0
    below = recording_from_mne(raw, np.ones(len(raw.ch_names)), "V")
    return [segment.start + raw.first_samp for segment in below.segments[1:]], below.sampling_rate


def _marks_in_pieces(epochs: Any, breaks: list[int], rate: float) -> list[tuple[float, float, str]]:
    """
    Annotations of epochs that reject windows, and breaks of the Raw, by the clock on which the epochs follow each
    other.
    """
    marks, length = [], len(epochs.times) / epochs.info["sfreq"]
    for piece, annotations in enumerate(epochs.get_annotations_per_epoch()):
        inside = ((at - epochs.events[piece, 0]) / rate for at in breaks)
        annotations = annotations + [(at, 0.0, "boundary") for at in inside if 0 < at - epochs.tmin < length]
        for onset, duration, description in (annotation[:3] for annotation in annotations):
            if leaves_out_time(onset, duration, description):
                start, end = (min(max(0.0, time - epochs.tmin), length) for time in (onset, onset + duration))
                marks.append((piece * length + start, end - start, description))
    return marks


def _note_single_channels(recording: Recording, annotations: Any) -> None:
    """MNE rejects a window for all channels, even where an annotation names some."""
    for description, names in sorted(set(zip(annotations.description, map(tuple, annotations.ch_names), strict=True))):
        if names and _is_bad(description):
            recording.notes.append(
                f"note: {description} names only {', '.join(names)}; it counts for all channels, as in MNE"
            )


def _split_at_joins(recording: Recording) -> None:
    """
    Gaps of a Raw by its files, whatever became of its annotations: where recordings were concatenated, and where MNE
    joined the parts of an EDF+ or BDF+ file without saying so.
    """
    source, parts, begin, expected = recording.source, [], 0, None
    for path, first, samples in raw_parts(source):
        # the parts of a split file follow each other; a change of the rate rounds where they begin
        if expected is not None and abs(first - expected) > 1:
            recording.segments = without(recording.segments, begin, begin, recording.sampling_rate)
        with_clock = is_raw_edf(source) and path is not None and _edf_kind(path, recording)[:4] in _EDF_PLUS
        parts.append((path if with_clock else None, first, samples))
        begin, expected = begin + samples, first + samples
    if any(path for path, _, _ in parts):
        _follow_clock(recording, parts)


def _edf_kind(path: Path, recording: Recording) -> bytes:
    """What the header says: EDF+C, EDF+D, ..., or nothing; a note if the file is no longer there."""
    if not path.is_file():
        recording.notes.append(f"note: {path.name} is no longer there, so gaps inside it can't be seen")
        return b""
    with path.open("rb") as file:
        file.seek(192)
        return file.read(5)


def _follow_clock(recording: Recording, parts: list[tuple[Path | None, int, int]]) -> None:
    """Gaps and annotations by the clock of EDF+ and BDF+ files, where the code that reads it is installed."""
    try:
        from neuript_hf.formats.edf import follow_clock
    except ImportError as error:
        gapped = [path.name for path, _, _ in parts if path and _edf_kind(path, recording).endswith(b"D")]
        if not gapped:
            return
        raise ImportError(
            f"{', '.join(gapped)} is discontinuous (EDF+D or BDF+D). MNE joins its parts, and the code that comes "
            "with the weights cannot tell where: pip install neuript_hf. Or, if the gaps do not matter, pass "
            "mne.io.RawArray(raw.get_data(), raw.info)."
        ) from error
    follow_clock(recording, parts)


def cut_holes(recording: Recording) -> None:
    """
    Cuts from the segments what no window may reach into: boundaries and skipped time by the recording's events, and
    time in which no EEG channel has a number. To be called once events and types are complete; again, it changes
    nothing.
    """
    if recording.in_pieces or not recording.segments:
        return
    rate, before = recording.sampling_rate, recording.segments
    for start, end in filter(None, (_hole(*event) for event in recording.events)):
        recording.segments = [
            part
            for segment in recording.segments
            for part in without([segment], *(_sample_of(segment, time, rate) for time in (start, end)), rate)
        ]
    for start, stop in _missing(recording):
        recording.segments = without(recording.segments, start, stop, rate)
    if not recording.segments:
        raise ValueError("The recording is empty: all of it is marked as skipped (BAD_ACQ_SKIP or EDGE).")
    first, last = recording.segments[0], recording.segments[-1]
    lost = {
        "first": first.onset - before[0].onset,
        "last": (before[-1].stop - before[-1].start - last.stop + last.start) / rate + before[-1].onset - last.onset,
    }
    recording.notes += [
        f"note: the {where} {seconds:g} s are skipped or hold no numbers"
        for where, seconds in lost.items()
        if seconds > 0.5 / rate
    ]


def leaves_out_time(onset: float, duration: float, description: str) -> bool:
    """Whether an annotation marks time as bad or missing."""
    return _is_bad(description) or _hole(onset, duration, description) is not None


def _is_bad(description: str) -> bool:
    """Whether an annotation marks time to be rejected."""
    return _plain(description).startswith(_REJECTED)


def _hole(onset: float, duration: float, description: str) -> tuple[float, float] | None:
    """Start and end of what an annotation says is missing; equal for a break between two samples."""
    name = _plain(description)
    if _BREAK.fullmatch(name):
        return onset, onset
    if name.startswith("edge") or (name.startswith("bad_acq_skip") and duration > 0):
        return onset, onset + duration
    return None


def _plain(description: str) -> str:
    """In lower case, and without what BrainVision puts before annotations that were saved in its format."""
    return description.lower().removeprefix("comment/")


def _sample_of(segment: Segment, time: float, rate: float) -> int:
    """The sample at a time by the clock; one in the middle of two samples (EEGLAB's boundaries) is the later one."""
    # MNE rounds annotations to microseconds
    return segment.start + math.floor((time - segment.onset + 2e-6) * rate + 0.5)


def without(segments: list[Segment], start: int, stop: int, rate: float) -> list[Segment]:
    """Segments without the samples `start` to `stop`; split there if these are equal."""
    parts = []
    for segment in segments:
        # a break after the first or before the last sample separates nothing (BrainVision's first New Segment)
        if start == stop and not segment.start + 1 < start < segment.stop - 1:
            parts.append(segment)
            continue
        for first, last in ((segment.start, min(start, segment.stop)), (max(stop, segment.start), segment.stop)):
            if first < last:
                parts.append(Segment(first, last, segment.onset + (first - segment.start) / rate))
    return parts


def _missing(recording: Recording) -> list[tuple[int, int]]:
    """Stretches of samples without a number in any EEG channel; none if there is no other sample."""
    eeg = [index for index, kind in enumerate(recording.types) if kind == "eeg"]
    source = recording.source
    whole_numbers = source.dtype.kind != "f" if isinstance(source, np.ndarray) else is_raw_edf(source)
    if not eeg or (whole_numbers and not getattr(source, "preload", False)):
        return []
    stretches, found = [], False
    for segment in recording.segments:
        for start in range(segment.start, segment.stop, _BLOCK_SAMPLES):
            stop = min(start + _BLOCK_SAMPLES, segment.stop)
            lost = ~np.isfinite(recording.read(eeg[:1], start, stop)[0])
            if lost.any():
                lost = ~np.isfinite(recording.read(eeg, start, stop)).any(axis=0)
            found = found or not lost.all()
            steps = np.flatnonzero(np.diff(lost, prepend=False, append=False)) + start
            stretches += zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True)
    return stretches if found else []


def check_given(recording: Recording, sampling_rate: float | None, channel_names: Sequence[str] | None) -> None:
    """
    What the user says about a recording that has a rate and names of its own: the names replace these.

    Raises:
        ValueError: where the rate contradicts the recording's, or the number of names differs.
    """
    rate = recording.sampling_rate
    if sampling_rate is not None and abs(sampling_rate / rate - 1) > _RATE_TOLERANCE:
        raise ValueError(
            f"sampling_rate is {sampling_rate} Hz, but the recording says {rate:g} Hz. Leave it out, or correct the "
            "recording where that is wrong."
        )
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
    "cut_holes",
    "is_of_mne",
    "is_recording",
    "leaves_out_time",
    "recording_from_array",
    "recording_from_mne",
    "without",
]
