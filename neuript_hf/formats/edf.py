"""
EDF and BDF by their own headers: units, rates of single signals, the clock of each record, whether the file is whole.

Sources: the EDF, EDF+ and BDF descriptions (edfplus.info, biosemi.com).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import mne
import numpy as np

from ..electrodes import resolve_channel
from ..private_apis import samples_per_record
from ..recordings import Recording, Segment, without
from ..units import NO_UNIT, microvolts_of
from .headers import ranges_that_cannot_be


# The step of an amplifier in microvolts above which the header's ranges are doubtful.
COARSE_STEP = 10.0
# A recording saved as text has the bytes of U+FFFD wherever a byte was not text.
_REPLACEMENT = b"\xef\xbf\xbd"


@dataclass
class EDFHeader:
    """
    Header of an EDF or BDF file.

    Args:
        labels, units: of every signal, annotations included.
        physical, digital: the range of every signal in its unit and in steps, each (minimum, maximum).
        samples: number of samples of each signal in one record.
        record_seconds: length of a record.
        records: number of complete records in the file.
        promised_records: the number that the header gives; -1 = the recording was not closed.
        header_bytes, sample_bytes: sizes.
        continuous: whether it says that there are no gaps between records (not EDF+D or BDF+D).
        corrected: whether `record_seconds` is not what the header says, but follows from the rate that the user gave.
    """

    labels: list[str]
    units: list[str]
    physical: list[tuple[float, float]]
    digital: list[tuple[float, float]]
    samples: list[int]
    record_seconds: float
    records: int
    promised_records: int
    header_bytes: int
    sample_bytes: int
    continuous: bool
    corrected: bool = False

    @property
    def annotations(self) -> list[int]:
        """Numbers of the signals that contain annotations."""
        return [i for i, label in enumerate(self.labels) if label in ("EDF Annotations", "BDF Annotations")]

    @property
    def rates(self) -> list[float]:
        """Sampling rate of each signal, in hertz."""
        return [count / self.record_seconds for count in self.samples]

    @property
    def eeg(self) -> list[int]:
        """Numbers of the signals that may be EEG by their unit and name."""
        return [
            k
            for k, (unit, label) in enumerate(zip(self.units, self.labels, strict=True))
            if k not in self.annotations
            and (microvolts_of(unit) or unit.lower() in NO_UNIT)
            and not resolve_channel(label).startswith("non-eeg")
        ]


def read_edf_header(path: Path, sampling_rate: float | None = None) -> EDFHeader:
    """
    Args:
        path: an EDF or BDF file.
        sampling_rate: of the EEG channels in hertz, for a header whose length of a record can't be, or contradicts the
            clock of the records.

    Raises:
        ValueError: where a field is not a number, there are no signals or no records, the length of a record can't be
            and no rate is given, or the file was mangled.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        fixed = file.read(256)
        count = _number(fixed[252:256], "number of signals", int)
        table = file.read(256 * count) if count > 0 else b""
    if count < 1 or len(table) < 256 * count:
        raise ValueError(f"The header is broken: it names {count} signals, but the file has {size} bytes.")

    def column(offset: int, width: int) -> list[str]:
        start = offset * count
        return [table[start + k * width : start + (k + 1) * width].decode("latin-1").strip() for k in range(count)]

    samples = [_number(text.encode("latin-1"), "samples in a record", int) for text in column(216, 8)]
    header_bytes = _number(fixed[184:192], "size of the header", int)
    sample_bytes = 3 if fixed[0] == 0xFF else 2
    record_bytes = sum(samples) * sample_bytes
    if record_bytes < 1:
        raise ValueError("The header is broken: its records have no samples.")
    if header_bytes != 256 * (count + 1):
        raise ValueError(
            f"The header is broken: it gives its own size as {header_bytes} bytes, but {count} signals take "
            f"{256 * (count + 1)}. One of the two numbers (bytes 184 to 191, 252 to 255) is wrong."
        )
    if b"," in fixed[244:252]:  # MNE reads no number here
        raise ValueError(
            f"The header gives {fixed[244:252].decode('latin-1').strip()!r} as length of a record (its bytes 244 to "
            "251): write it with a decimal point."
        )
    labels = column(0, 16)

    def limits(offset: int, what: str) -> list[float]:
        texts = zip(column(offset, 8), labels, strict=True)
        return [_number(text.encode("latin-1"), f"{what} of {label}", float) for text, label in texts]

    physical = zip(limits(104, "physical minimum"), limits(112, "physical maximum"), strict=True)
    digital = zip(limits(120, "digital minimum"), limits(128, "digital maximum"), strict=True)
    header = EDFHeader(
        labels=labels,
        units=column(96, 8),
        physical=list(physical),
        digital=list(digital),
        samples=samples,
        record_seconds=_number(fixed[244:252], "length of a record", float),
        records=max(0, size - header_bytes) // record_bytes,
        promised_records=_number(fixed[236:244], "number of records", int),
        header_bytes=header_bytes,
        sample_bytes=sample_bytes,
        continuous=_is_continuous(path),
    )
    if len(header.annotations) == count:
        raise ValueError("The file has no signal channels, only annotations (a hypnogram or an event list).")
    if header.records == 0 or header.promised_records == 0:
        raise ValueError("The file has no data: its header describes 0 records, so it lasts 0 s.")
    _refuse_mangled(path, header, size)
    _find_record_seconds(path, header, sampling_rate)
    return header


def _number(field: bytes, what: str, kind: type) -> float:
    text = field.decode("latin-1").strip().rstrip("\0").replace(",", ".")
    try:
        return kind(float(text)) if kind is int and "." in text else kind(text)
    except ValueError:
        raise ValueError(
            f"The header is broken: its {what} should be a number, but is {text!r}. (The header gives the number of "
            "signals at byte 252; a field of the wrong length before it shifts everything.)"
        ) from None


def _refuse_mangled(path: Path, header: EDFHeader, size: int) -> None:
    """Refuses impossible records: saving as text leaves marks everywhere, and annotations begin with an onset."""
    with path.open("rb") as file:
        file.seek(header.header_bytes)
        sample = file.read(1_000_000)
    mangled = sample.count(_REPLACEMENT) * 100 > len(sample)
    if header.annotations and not mangled:
        first = _annotation_bytes(path, header, most=1000)[:, 0]
        mangled = not np.isin(first, list(b"+-\0")).all()
    if mangled:
        expected = header.header_bytes + header.promised_records * sum(header.samples) * header.sample_bytes
        raise ValueError(
            f"The file is truncated or corrupt: its records do not match the header (size {size} bytes, by "
            f"the header {expected}). It may have been saved or sent as text; get a fresh copy."
        )


def _annotation_bytes(path: Path, header: EDFHeader, most: int | None = None) -> np.ndarray:
    """The first annotation signal of every record, or of the first `most`, uint8 `[records, bytes]`."""
    record = sum(header.samples) * header.sample_bytes
    first = header.annotations[0]
    offset = sum(header.samples[:first]) * header.sample_bytes
    width = header.samples[first] * header.sample_bytes
    mapped = np.memmap(path, np.uint8, "r", header.header_bytes, (header.records, record))
    return np.array(mapped[:most, offset : offset + width])


def record_onsets(path: Path, header: EDFHeader, most: int | None = None) -> np.ndarray:
    """Start of each record (or of the first `most`) in seconds after the first, by the clock in the annotations."""
    texts = [bytes(row).split(b"\x14")[0].decode("latin-1") for row in _annotation_bytes(path, header, most)]
    try:
        onsets = np.array([float(text) for text in texts])
    except ValueError:
        raise ValueError(
            f"The file is truncated or corrupt: a record's annotations do not begin with an onset, in {texts!r:.80}."
        ) from None
    return onsets - onsets[0]


def follow_clock(recording: Recording, parts: Sequence[tuple[Path | None, int, int]]) -> None:
    """
    Sets the segments and events of a Raw of EDF+ or BDF+ files by the clock of their records: MNE joins these without
    saying so, and counts the file's own annotations by the clock, but all others in the joined signal.

    Args:
        recording: of a Raw, whole or cropped, resampled, concatenated; already split where it was concatenated.
        parts: of each recording in the Raw its file (`None` = without gaps), its first sample in the file, and its
            number of samples, at the Raw's rate.
    """
    rate, begin, clock = recording.sampling_rate, 0, 0.0
    joined, breaks = recording.events, [(segment.start, 0.0) for segment in recording.segments[1:]]
    resampled, by_file, from_file = False, [], set()
    read = {path: _clock(path, rate) for path, *_ in parts if path is not None}
    clocks = {path: found for path, found in read.items() if found is not None}
    recording.notes += [
        f"note: {path.name} says that it has gaps (EDF+D or BDF+D), but has no clock that says where"
        for path in read
        if path not in clocks and not _is_continuous(path)
    ]
    if not any(gaps for _, gaps in clocks.values()):
        return
    for path, first, samples in parts:
        if path not in clocks:
            begin, clock = begin + samples, clock + samples / rate
            continue
        # the rate may have changed since MNE read the file
        header, gaps = clocks[path]
        record = header.record_seconds * rate
        resampled = resampled or samples_per_record(recording.source) != round(record, 6)
        if header.continuous and gaps:
            recording.notes.append(
                f"note: {path.name} says that it has no gaps, but the clock of its records has some"
            )
        before = sum(seconds for sample, seconds in gaps.items() if sample <= first)
        inside = [(sample - first, seconds) for sample, seconds in gaps.items() if first < sample < first + samples]
        breaks += [(begin + at, seconds) for at, seconds in inside]
        length = samples / rate + sum(seconds for _, seconds in inside)
        if gaps and not first and samples < round(header.records * record):
            recording.notes.append(
                f"note: {path.name} has gaps and goes on after the end of this Raw; if it was cropped with "
                "reset_first_samp=True, nobody can tell any more where they are"
            )
        for onset, duration, description in _annotations(path):
            in_raw = begin / rate + onset - first / rate  # where MNE puts it, whole or cropped
            shift, slack = clock - first / rate - before + onset - in_raw, 0.5 / rate
            same = {
                k
                for k, (start, seconds, text) in enumerate(joined)
                if text == description and in_raw - slack < start and start + seconds < in_raw + duration + slack
            }
            from_file |= same
            found = [joined[k][:2] for k in same]
            # MNE drops annotations that it puts beyond the joined signal
            if not same and not begin <= in_raw * rate < begin + samples:
                found = [(in_raw, duration)]
            by_file += [
                (start + shift, seconds, description)
                for start, seconds in found
                if clock - seconds <= start + shift < clock + length
            ]
        begin, clock = begin + samples, clock + length
    recording.segments = segments_between(sorted(breaks), begin, rate)
    if resampled:
        # which sample is the first after a gap is known to within one
        for at, _ in breaks:
            recording.segments = without(recording.segments, at - 1, at + 1, rate)

    def by_clock(time: float) -> float:
        segment = [part for part in recording.segments if part.start <= time * rate + 0.5][-1:]
        return segment[0].onset + time - segment[0].start / rate if segment else time

    others = [event for k, event in enumerate(joined) if k not in from_file]
    moved = [(by_clock(on), by_clock(on + duration) - by_clock(on), text) for on, duration, text in others]
    recording.events = sorted(by_file + moved)


def _clock(path: Path, rate: float) -> tuple[EDFHeader, dict[int, float]] | None:
    """
    Header of an EDF+ or BDF+ file and, by the sample before which time is missing, how many seconds; `None` for a file
    that promises to have no gaps and whose clock is of no use.
    """
    try:
        header = read_edf_header(path)
        if not header.annotations:
            return None
        late = record_onsets(path, header) - np.arange(header.records) * header.record_seconds
    except ValueError:
        if _is_continuous(path):
            return None
        raise
    missing = np.diff(late)
    if header.continuous:
        # here the clock may be rounded to whole seconds: only what no later record takes back is a gap
        missing = np.minimum.accumulate(late[::-1])[::-1][1:] - np.maximum.accumulate(late)[:-1]
        missing = np.maximum(missing, 0.0)
    # a record that comes a sample late is rounding of the clock
    gaps = np.flatnonzero(np.abs(missing) > 1.5 / rate)
    return header, {round((int(k) + 1) * header.record_seconds * rate): float(missing[k]) for k in gaps}


def _is_continuous(path: Path) -> bool:
    """Whether the header says that there are no gaps between records."""
    with path.open("rb") as file:
        file.seek(192)
        return file.read(5) not in (b"EDF+D", b"BDF+D")


def _annotations(path: Path) -> list[tuple[float, float, str]]:
    """The annotations of an EDF+ or BDF+ file, by its clock."""
    try:
        found = mne.read_annotations(path)
    except UnicodeDecodeError:
        found = mne.read_annotations(path, encoding="latin1")
    return [(float(a["onset"]), float(a["duration"]), a["description"]) for a in found]


def segments_between(breaks: Sequence[tuple[int, float]], samples: int, rate: float) -> list[Segment]:
    """Segments between breaks, each given as (first sample after it, missing seconds)."""
    segments, begin, clock = [], 0, 0.0
    for at, missing in [*breaks, (samples, 0.0)]:
        segments.append(Segment(begin, int(at), clock))
        clock += (at - begin) / rate + missing
        begin = at
    return segments


def signals_of_other_rates(header: EDFHeader, sampling_rate: float | None = None) -> dict[int, str]:
    """
    Signals that are stored at another rate than the EEG, with the reason to leave them out: MNE would stretch them or,
    if their rate is higher, the EEG. The EEG's rate is `sampling_rate` if EEG channels have it, else that of most.
    """
    rates, names = header.rates, header.labels
    signals = [k for k in range(len(names)) if k not in header.annotations]
    counts = Counter(rates[k] for k in header.eeg or signals)
    rate = max(counts, key=lambda value: (value == sampling_rate, counts[value], value))
    kept = {names[k] for k in signals if rates[k] == rate}
    return {
        k: f"stored at {rates[k]:g} Hz, the EEG at {rate:g} Hz"
        for k in signals
        if rates[k] != rate and names[k] not in kept
    }


def _find_record_seconds(path: Path, header: EDFHeader, sampling_rate: float | None) -> None:
    """
    Sets the length of a record by the rate where the header's can't be, or contradicts the clock of the records.

    Raises:
        ValueError: where no rate is given.
    """
    counts = Counter(header.samples[k] for k in header.eeg)
    samples = max(counts, key=lambda value: (counts[value], value)) if counts else max(header.samples)
    seconds, bytes_of_it = header.record_seconds, "(bytes 244 to 251 of the header)"
    if not np.isfinite(seconds) or seconds <= 0 or not 1 <= samples / seconds <= 1e6:
        problem = f"The header gives {seconds:g} s as length of a record {bytes_of_it}, which can't be"
        known = f"a record has {samples} samples of each"
    elif header.continuous and (step := _other_step(path, header)):
        problem = (
            f"The header gives {seconds:g} s as length of a record {bytes_of_it}, but by their clock records follow "
            f"each other every {step:g} s"
        )
        known = f"{samples / seconds:g} Hz by the header, {samples / step:g} Hz by the clock"
    else:
        return
    if sampling_rate is None:
        raise ValueError(f"{problem}. Give the rate of the EEG channels: sampling_rate=... ({known}).")
    if not header.continuous:
        raise ValueError(f"{problem}, and the file has gaps (EDF+D or BDF+D). Correct the header.")
    header.record_seconds, header.corrected = samples / sampling_rate, True


def corrected_copy(path: Path, header: EDFHeader) -> BytesIO:
    """The file in memory with the header's `record_seconds` in place of its own."""
    data = bytearray(path.read_bytes())
    data[244:252] = f"{header.record_seconds:.8g}"[:8].encode().ljust(8)
    return BytesIO(data)


def _other_step(path: Path, header: EDFHeader) -> float:
    """
    Seconds from one record to the next by the clock, if that is not the length of a record; else 0. The clock may be
    rounded to whole seconds, or have a gap.
    """
    try:
        onsets = record_onsets(path, header, most=100) if header.annotations else np.zeros(0)
    except ValueError:
        return 0.0
    if len(onsets) < 2 or (np.diff(onsets) <= 0).any():
        return 0.0
    # over a quarter of the records, so that rounding counts less; gaps are in some of such stretches, jitter in all
    far, seconds = max(1, len(onsets) // 4), header.record_seconds
    stretches = np.quantile(onsets[far:] - onsets[:-far], [0.25, 0.5], method="lower")
    rounded = not (onsets % 1).any() and seconds % 1
    other = np.abs(stretches - far * seconds) > (1 if rounded else 0.01 * far * seconds)
    return float(stretches[1]) / far if other.all() else 0.0


def signals_without_scale(header: EDFHeader) -> dict[int, str]:
    """
    Signals whose header can't turn steps into microvolts, with what is wrong.

    Raises:
        ValueError: where this is so of all EEG signals.
    """
    wrong = ranges_that_cannot_be(header.units, header.physical, header.digital)
    wrong = {k: what for k, what in wrong.items() if k not in header.annotations}
    if wrong and set(header.eeg) <= set(wrong):
        label, count = next(iter(wrong)), len(header.labels)
        first = 256 + 104 * count
        raise ValueError(
            f"The header does not say how many microvolts a step is: {header.labels[label]} has {wrong[label]}. Write "
            f"the amplifier's own ranges into the header, 8 characters for each signal: physical minimum from byte "
            f"{first}, physical maximum from {first + 8 * count}, digital minimum (the smaller number) from "
            f"{first + 16 * count}, digital maximum from {first + 24 * count}."
        )
    return wrong


def coarse_signals(header: EDFHeader) -> list[str]:
    """EEG signals whose header makes a step of more than 10 microvolts, in which EEG would hardly show."""
    coarse = []
    for k in header.eeg:
        (low, high), (least, most) = header.physical[k], header.digital[k]
        size = microvolts_of(header.units[k])
        if size is not None and least < most and abs(high - low) / (most - least) * size > COARSE_STEP:
            coarse.append(header.labels[k])
    return coarse


def signals_outside_their_range(path: Path, header: EDFHeader) -> list[str]:
    """EEG signals of EDF whose first samples lie outside their digital range, more than one in ten of them."""
    if header.sample_bytes != 2:
        return []
    mapped = np.memmap(path, "<i2", "r", header.header_bytes, (header.records, sum(header.samples)))
    first = np.array(mapped[: max(1, 1_000_000 // (2 * mapped.shape[1]))])
    starts = np.cumsum([0, *header.samples])
    outside = []
    for k in header.eeg:
        steps, (least, most) = first[:, starts[k] : starts[k + 1]], header.digital[k]
        if steps.size and np.mean((steps < least - 1) | (steps > most + 1)) > 0.1:
            outside.append(header.labels[k])
    return outside


__all__ = [
    "COARSE_STEP",
    "EDFHeader",
    "coarse_signals",
    "corrected_copy",
    "follow_clock",
    "read_edf_header",
    "record_onsets",
    "segments_between",
    "signals_of_other_rates",
    "signals_outside_their_range",
    "signals_without_scale",
]
