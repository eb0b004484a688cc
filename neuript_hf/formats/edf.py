"""
EDF and BDF by their own headers: units, rates of single signals, the clock of each record, whether the file is whole.

Sources: the EDF, EDF+ and BDF descriptions (edfplus.info, biosemi.com).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..electrodes import resolve_channel
from ..private_apis import samples_per_record
from ..recordings import Recording, Segment
from ..units import NO_UNIT, microvolts_of


# A recording saved as text has the bytes of U+FFFD wherever a byte was not text.
_REPLACEMENT = b"\xef\xbf\xbd"


@dataclass
class EDFHeader:
    """
    Header of an EDF or BDF file.

    Args:
        labels, units: of every signal, annotations included.
        samples: number of samples of each signal in one record.
        record_seconds: length of a record; 0 in files of annotations.
        records: number of complete records in the file.
        promised_records: the number that the header gives; -1 = the recording was not closed.
        header_bytes, sample_bytes: sizes.
    """

    labels: list[str]
    units: list[str]
    samples: list[int]
    record_seconds: float
    records: int
    promised_records: int
    header_bytes: int
    sample_bytes: int

    @property
    def annotations(self) -> list[int]:
        """Numbers of the signals that contain annotations."""
        return [i for i, label in enumerate(self.labels) if label in ("EDF Annotations", "BDF Annotations")]

    @property
    def rates(self) -> list[float]:
        """Sampling rate of each signal, in hertz."""
        return [count / self.record_seconds if self.record_seconds else 0.0 for count in self.samples]


def read_edf_header(path: Path) -> EDFHeader:
    """
    Raises:
        ValueError: where a field is not a number, there are no signals or no records, or the file was mangled.
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
    header = EDFHeader(
        labels=column(0, 16),
        units=column(96, 8),
        samples=samples,
        record_seconds=_number(fixed[244:252], "length of a record", float),
        records=max(0, size - header_bytes) // record_bytes,
        promised_records=_number(fixed[236:244], "number of records", int),
        header_bytes=header_bytes,
        sample_bytes=sample_bytes,
    )
    if len(header.annotations) == count:
        raise ValueError("The file has no signal channels, only annotations (a hypnogram or an event list).")
    if header.records == 0 or header.promised_records == 0:
        raise ValueError("The file has no data: its header describes 0 records, so it lasts 0 s.")
    _refuse_mangled(path, header, size)
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


def record_onsets(path: Path, header: EDFHeader) -> np.ndarray:
    """Start of each record in seconds after the first, by the clock in the annotations (EDF+D, BDF+D)."""
    texts = [bytes(row).split(b"\x14")[0].decode("latin-1") for row in _annotation_bytes(path, header)]
    try:
        onsets = np.array([float(text) for text in texts])
    except ValueError:
        raise ValueError(
            f"The file is truncated or corrupt: a record's annotations do not begin with an onset, in {texts!r:.80}."
        ) from None
    return onsets - onsets[0]


def segments_by_clock(recording: Recording, path: Path) -> list[Segment]:
    """
    The segments of a Raw of an EDF+D or BDF+D file, by the clock of its records: MNE joins them without saying so.

    Args:
        recording: of a Raw, whole or cropped.
        path: its file.
    """
    source, rate = recording.source, recording.sampling_rate
    header = read_edf_header(path)
    if samples_per_record(source) / header.record_seconds != rate:
        return recording.segments
    missing = np.diff(record_onsets(path, header)) - header.record_seconds
    length = round(header.record_seconds * rate)
    # a cropped Raw begins at first_samp
    at = {(int(k) + 1) * length - source.first_samp: k for k in np.flatnonzero(np.abs(missing) > 0.5 / rate)}
    breaks = [(sample, float(missing[k])) for sample, k in at.items() if 0 < sample < source.n_times]
    return segments_between(breaks, source.n_times, rate) if breaks else recording.segments


def segments_between(breaks: Sequence[tuple[int, float]], samples: int, rate: float) -> list[Segment]:
    """Segments between breaks, each given as (first sample after it, missing seconds)."""
    segments, begin, clock = [], 0, 0.0
    for at, missing in [*breaks, (samples, 0.0)]:
        segments.append(Segment(begin, int(at), clock))
        clock += (at - begin) / rate + missing
        begin = at
    return segments


def signals_of_other_rates(header: EDFHeader) -> dict[int, str]:
    """
    Signals that are stored at another rate than most EEG channels, with the reason to leave them out: MNE would
    stretch them or, if their rate is higher, the EEG.
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


__all__ = [
    "EDFHeader",
    "read_edf_header",
    "record_onsets",
    "segments_between",
    "segments_by_clock",
    "signals_of_other_rates",
]
