"""
What the headers of GDF, BrainVision, BCI2000 and Neuroscan files say where MNE misreads them.

Sources: the GDF 2 paper (arXiv cs/0608052), the BrainVision core data format, the BCI2000 data format.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..units import microvolts_of


_GDF_UNITS = {0: "", 512: "", 4256: "V", 4274: "mV", 4275: "uV", 4276: "nV"}


def ranges_that_cannot_be(
    units: Sequence[str], physical: Sequence[tuple[float, float]], digital: Sequence[tuple[float, float]]
) -> dict[int, str]:
    """
    Channels of EDF, BDF or GDF whose header can't turn steps into microvolts, with what is wrong: MNE puts 1 in place
    of a range of nothing.

    Args:
        units: of the channels.
        physical, digital: their ranges in this unit and in steps, each (minimum, maximum).
    """
    wrong = {}
    for k, ((low, high), (least, most)) in enumerate(zip(physical, digital, strict=True)):
        if not np.isfinite([low, high]).all() or low == high:
            wrong[k] = f"a physical range of {low:g} to {high:g} {units[k]}".rstrip()
        elif not least < most:
            wrong[k] = f"a digital range of {least:g} to {most:g}"
    return wrong


def gdf_ranges(path: Path) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Physical and digital range of each channel of a GDF file."""
    version, count, table = _gdf_table(path)
    kinds = ("<f8", "<f8", "<f8", "<f8") if version >= 2 else ("<f8", "<f8", "<i8", "<i8")
    low, high, least, most = (
        np.frombuffer(table[at * count : (at + 8) * count], kind).astype(float)
        for at, kind in zip((104, 112, 120, 128), kinds, strict=True)
    )
    return list(zip(low, high, strict=True)), list(zip(least, most, strict=True))


def gdf_units(path: Path) -> list[str]:
    """Unit of each channel of a GDF file; `""` if it has none."""
    version, count, table = _gdf_table(path)
    if version < 2:
        fields = table[96 * count : 104 * count]
        return [fields[8 * k : 8 * k + 8].decode("latin-1").strip(" \0") for k in range(count)]
    codes = np.frombuffer(table[102 * count : 104 * count], "<u2")
    return [_GDF_UNITS.get(int(code), f"code {code}") for code in codes]


def _gdf_table(path: Path) -> tuple[float, int, bytes]:
    """Version, number of channels, and the part of the header that describes them."""
    with path.open("rb") as file:
        fixed = file.read(256)
        version = float(fixed[4:8])
        count = int.from_bytes(fixed[252:254] if version >= 2 else fixed[252:256], "little")
        return version, count, file.read(256 * count)


def brainvision_units(path: Path) -> list[str]:
    """Unit of each channel of a BrainVision header, in their order; the default is microvolts."""
    section = re.search(
        r"\[Channel Infos\](.*?)(?:^\[|\Z)", _brainvision_text(path), re.IGNORECASE | re.DOTALL | re.MULTILINE
    )
    entries = re.findall(r"^Ch(\d+)=(.*?)\s*$", section[1] if section else "", re.IGNORECASE | re.MULTILINE)
    fields = {int(number): entry.split(",") for number, entry in entries}
    return [(fields[number] + [""] * 4)[3].strip() or "uV" for number in sorted(fields)]


def check_brainvision_data(path: Path) -> list[str]:
    """
    Whether the data file fits a BrainVision header, which names it and says how its numbers are stored.

    Returns:
        notes for the report.

    Raises:
        ValueError: where it is missing, may be another recording's, or has a size that does not fit.
    """
    pairs = re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", _brainvision_text(path), re.MULTILINE)
    header = {key.lower(): value for key, value in reversed(pairs)}
    data = path.with_name(header.get("datafile", path.stem + ".eeg").replace("$b", path.stem))
    if not data.is_file():
        raise ValueError(
            f"The header names {data.name} as its data, which is not beside it. Fetch it, or, if the files were "
            f"renamed, write their new names into the header (DataFile=, MarkerFile=)."
        )
    notes = check_data_file(path, data, "DataFile=")
    if header.get("dataformat", "binary").lower() != "binary":
        return notes
    kind, channels = header.get("binaryformat", "INT_16").upper(), int(header.get("numberofchannels", 0))
    width = channels * {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4, "IEEE_FLOAT_64": 8}.get(kind, 0)
    size, promised = data.stat().st_size, int(header.get("datapoints") or 0)
    markers = path.with_name(header.get("markerfile", path.stem + ".vmrk").replace("$b", path.stem))
    if width and markers.is_file():
        places = re.findall(r"^Mk\d+=[^,]*,[^,]*,(\d+)", _brainvision_text(markers), re.MULTILINE)
        if late := sum(int(place) > size // width for place in places):
            notes.append(f"note: {late} of {len(places)} markers lie after the end of the data, which may be cut off")
    if not width or (size % width == 0 and promised in (0, size // width)):
        return notes
    what = (
        f"{data.name} has {size} bytes; {channels} channels (NumberOfChannels) in {kind} (BinaryFormat) make that "
        f"{size / width:g} samples" + f", and the header promises {promised} (DataPoints)" * bool(promised)
    )
    vectorized = header.get("dataorientation", "").upper() == "VECTORIZED"
    if vectorized or size in (2 * promised * width, promised * width // 2):
        raise ValueError(f"{what}. Correct the one that is wrong, or get a complete copy.")
    return [*notes, f"note: {what}; it is truncated, or one of these is wrong"]


def check_data_file(path: Path, data: Path, where: str) -> list[str]:
    """
    Notes if a header's data file has another name than the header.

    Raises:
        ValueError: where a file of the header's own name lies beside it as well: one of them is another recording's.
    """
    own = path.with_suffix(data.suffix)
    if data.name == own.name:
        return []
    if own.is_file():
        raise ValueError(
            f"The header names {data.name} as its data ({where}), but {own.name} lies beside it, too. If the header "
            f"was copied or renamed, write {own.name} into it; if not, rename {own.name}."
        )
    return [f"note: the data are in {data.name}, as the header says"]


def _brainvision_text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def bci2000_gains(path: Path) -> list[float]:
    """Size of a stored step in microvolts, for each channel of a BCI2000 file (`SourceChGain`); none if not stated."""
    with path.open("rb") as file:
        length = int(re.search(rb"HeaderLen=\s*(\d+)", file.readline())[1])
        file.seek(0)
        text = file.read(length).decode("latin-1")
    found = re.search(r"SourceChGain=\s*(.*?)(?://|\r?\n)", text)
    count, *values = found[1].split() if found else ["0"]
    gains = []
    for value in values[: int(count)]:
        number = re.match(r"[-+0-9.eE]+", value)[0]
        gains.append(float(number) * (microvolts_of(value[len(number) :]) or 1.0))
    return gains


def neuroscan_sizes(path: Path) -> tuple[int, int, int]:
    """Channels and number of samples by the header of a Neuroscan .cnt file, and the bytes its samples take."""
    with path.open("rb") as file:
        fixed = file.read(900)
    channels = int.from_bytes(fixed[370:372], "little")
    events = int.from_bytes(fixed[886:890], "little")
    return channels, int.from_bytes(fixed[864:868], "little"), events - 900 - 75 * channels


__all__ = [
    "bci2000_gains",
    "brainvision_units",
    "check_brainvision_data",
    "check_data_file",
    "gdf_ranges",
    "gdf_units",
    "neuroscan_sizes",
    "ranges_that_cannot_be",
]
