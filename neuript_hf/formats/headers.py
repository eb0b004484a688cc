"""
What a file's own header says where MNE reads it wrong or not at all: units, rates of single channels, the clock of
each record, whether the file is whole.

Sources: the EDF, EDF+ and BDF descriptions (edfplus.info, biosemi.com), the GDF 2 paper (arXiv cs/0608052), the
BrainVision core data format, the BCI2000 data format.
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np


_PREFIXES = {"": 1e6, "m": 1e3, "milli": 1e3, "μ": 1.0, "u": 1.0, "mu": 1.0, "micro": 1.0, "n": 1e-3, "nano": 1e-3}
_VOLTAGE = re.compile(r"(n|nano|μ|u|mu|micro|m|milli|)[ -]?(?:v|volts?)")
# Bytes that stand for a micro sign: in Shift-JIS, and both signs in UTF-8 taken for Latin-1.
_MANGLED_MICRO = ("\x83\xca", "Âµ", "Î¼")
# Units that say nothing.
NO_UNIT = ("", "-", "n/a", "na", "none", "unknown", "?")
# A recording saved as text has the bytes of U+FFFD wherever a byte was no text.
_REPLACEMENT = b"\xef\xbf\xbd"
_GDF_UNITS = {0: "", 512: "", 4256: "V", 4274: "mV", 4275: "uV", 4276: "nV"}


def microvolts_of(unit: str) -> float | None:
    """Microvolts in one of a unit in any spelling (`"uV"`, `"µV"`, `"microV"`, `"mv"`, ...); `None` = no voltage."""
    for mangled in _MANGLED_MICRO:
        unit = unit.replace(mangled, "μ")
    match = _VOLTAGE.fullmatch(unicodedata.normalize("NFKC", unit).strip().lower())
    return _PREFIXES[match[1]] if match else None


@dataclass
class EDFHeader:
    """
    Header of an EDF or BDF file.

    Args:
        labels, units: of each signal, annotations included.
        samples: of each signal in one record.
        record_seconds: length of a record; 0 in files of annotations.
        records: whole records that the file holds.
        promised_records: what the header says; -1 = the recording was not closed.
        header_bytes, sample_bytes: sizes.
        discontinuous: marked EDF+D or BDF+D.
    """

    labels: list[str]
    units: list[str]
    samples: list[int]
    record_seconds: float
    records: int
    promised_records: int
    header_bytes: int
    sample_bytes: int
    discontinuous: bool

    @property
    def annotations(self) -> list[int]:
        """Numbers of the signals that hold annotations."""
        return [i for i, label in enumerate(self.labels) if label in ("EDF Annotations", "BDF Annotations")]

    @property
    def rates(self) -> list[float]:
        """Samples a second of each signal."""
        return [count / self.record_seconds if self.record_seconds else 0.0 for count in self.samples]


def read_edf_header(path: Path) -> EDFHeader:
    """
    Raises:
        ValueError: where a field is no number, there is no signal or no record, or the file was mangled.
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
        raise ValueError("The header is broken: its records hold no samples.")
    header = EDFHeader(
        labels=column(0, 16),
        units=column(96, 8),
        samples=samples,
        record_seconds=_number(fixed[244:252], "length of a record", float),
        records=max(0, size - header_bytes) // record_bytes,
        promised_records=_number(fixed[236:244], "number of records", int),
        header_bytes=header_bytes,
        sample_bytes=sample_bytes,
        discontinuous=fixed[192:197] in (b"EDF+D", b"BDF+D"),
    )
    if len(header.annotations) == count:
        raise ValueError("The file has no signal channels, only annotations (a hypnogram or an event list).")
    if header.records == 0 or header.promised_records == 0:
        raise ValueError("The file holds no data: its header describes 0 records, so it lasts 0 s.")
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
    """Records that can't be: a text conversion leaves its marks everywhere; an annotation begins with its onset."""
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
            f"The file is truncated or corrupt: its records are not what the header describes (size {size} bytes, by "
            f"the header {expected}). Perhaps it was once saved or sent as text; get it anew."
        )


def _annotation_bytes(path: Path, header: EDFHeader, most: int | None = None) -> np.ndarray:
    """The first annotation signal of every record (of at most so many), uint8 `[records, bytes]`."""
    record = sum(header.samples) * header.sample_bytes
    first = header.annotations[0]
    offset = sum(header.samples[:first]) * header.sample_bytes
    width = header.samples[first] * header.sample_bytes
    mapped = np.memmap(path, np.uint8, "r", header.header_bytes, (header.records, record))
    return np.array(mapped[:most, offset : offset + width])


def record_onsets(path: Path, header: EDFHeader) -> np.ndarray:
    """Seconds from the first record to each, by the clock in the annotations (EDF+D, BDF+D)."""
    texts = [bytes(row).split(b"\x14")[0].decode("latin-1") for row in _annotation_bytes(path, header)]
    try:
        onsets = np.array([float(text) for text in texts])
    except ValueError:
        raise ValueError(
            f"The file is truncated or corrupt: a record has no onset in its annotations, but {texts!r:.80}."
        ) from None
    return onsets - onsets[0]


def gdf_units(path: Path) -> list[str]:
    """Unit of each channel of a GDF file; `""` where it has none."""
    with path.open("rb") as file:
        fixed = file.read(256)
        version = float(fixed[4:8])
        count = int.from_bytes(fixed[252:254] if version >= 2 else fixed[252:256], "little")
        table = file.read(256 * count)
    if version < 2:
        fields = table[96 * count : 104 * count]
        return [fields[8 * k : 8 * k + 8].decode("latin-1").strip(" \0") for k in range(count)]
    codes = np.frombuffer(table[102 * count : 104 * count], "<u2")
    return [_GDF_UNITS.get(int(code), f"code {code}") for code in codes]


def brainvision_units(path: Path) -> list[str]:
    """Unit of each channel of a BrainVision header in their order; where none is written it is microvolt."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    section = re.search(r"\[Channel Infos\](.*?)(?:^\[|\Z)", text, re.IGNORECASE | re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^Ch(\d+)=(.*?)\s*$", section[1] if section else "", re.IGNORECASE | re.MULTILINE)
    fields = {int(number): entry.split(",") for number, entry in entries}
    return [(fields[number] + [""] * 4)[3].strip() or "uV" for number in sorted(fields)]


def bci2000_gains(path: Path) -> list[float]:
    """Microvolts in one stored step of each channel of a BCI2000 file (`SourceChGain`)."""
    with path.open("rb") as file:
        length = int(re.search(rb"HeaderLen=\s*(\d+)", file.readline())[1])
        file.seek(0)
        text = file.read(length).decode("latin-1")
    found = re.search(r"SourceChGain=\s*(.*?)(?://|\r?\n)", text)
    count, *values = found[1].split() if found else ["0"]
    if not values:
        raise ValueError("The BCI2000 header has no SourceChGain, which says what a stored number means. Give unit.")
    gains = []
    for value in values[: int(count)]:
        number = re.match(r"[-+0-9.eE]+", value)[0]
        gains.append(float(number) * (microvolts_of(value[len(number) :]) or 1.0))
    return gains


def neuroscan_sizes(path: Path) -> tuple[int, int, int]:
    """Channels and number of samples by the header of a Neuroscan .cnt file, and bytes that its samples take."""
    with path.open("rb") as file:
        fixed = file.read(900)
    channels = int.from_bytes(fixed[370:372], "little")
    events = int.from_bytes(fixed[886:890], "little")
    return channels, int.from_bytes(fixed[864:868], "little"), events - 900 - 75 * channels


__all__ = [
    "EDFHeader",
    "NO_UNIT",
    "bci2000_gains",
    "brainvision_units",
    "gdf_units",
    "microvolts_of",
    "neuroscan_sizes",
    "read_edf_header",
    "record_onsets",
]
