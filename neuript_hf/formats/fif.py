"""
FIF files by their own tags: what they hold, and how the parts of a recording that was split are linked.

Source: the FIFF file format, and how MNE writes it (`mne.io.Raw.save`, `mne.Epochs.save`).
"""

import gzip
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path


# Tags and blocks, by their numbers in the format.
_BLOCK_START, _REF_ROLE, _REF_FILE_NAME = 104, 115, 118
_PREVIOUS, _NEXT = 1, 2
_FIRST_TAG = b"\0\0\0\x64"
_CONTENTS = {102: "raw", 112: "raw", 119: "raw", 373: "epochs", 104: "averages over trials", 355: "a covariance"}
# Names of further parts: x_raw-1.fif follows x_raw.fif, x_split-02_raw.fif follows x_split-01_raw.fif.
_COUNTED = re.compile(r"(?P<head>.+)-(?P<number>\d+)(?P<tail>\.fif(\.gz)?)", re.IGNORECASE)
_SPLIT = re.compile(r"(?P<head>.+_split-)(?P<number>\d+)(?P<tail>_.+\.fif(\.gz)?)", re.IGNORECASE)


@dataclass
class FIFOutline:
    """
    What a FIF file holds.

    Args:
        contents: of `"raw"`, `"epochs"`, `"averages over trials"`, `"a covariance"`.
        previous, next: names of the files with the parts before and after this one, as the file has them.
    """

    contents: set[str] = field(default_factory=set)
    previous: str | None = None
    next: str | None = None


def read_fif_outline(path: Path) -> FIFOutline:
    """Goes through the tags of a file without reading the signal; nothing is found in what is no FIF file."""
    outline, role = FIFOutline(), None
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        if file.read(4) != _FIRST_TAG:
            return outline
        file.seek(0)
        while len(tag := file.read(16)) == 16:
            kind, _, size, following = struct.unpack(">iIii", tag)
            if kind in (_BLOCK_START, _REF_ROLE, _REF_FILE_NAME):
                content = file.read(size)
                if kind == _REF_FILE_NAME:
                    name = re.split(r"[\\/]", content.decode("utf-8", "replace"))[-1]
                    if role == _PREVIOUS:
                        outline.previous = name
                    elif role == _NEXT:
                        outline.next = name
                elif len(content) == 4:
                    (number,) = struct.unpack(">i", content)
                    role = number if kind == _REF_ROLE else role
                    if kind == _BLOCK_START and number in _CONTENTS:
                        outline.contents.add(_CONTENTS[number])
            else:
                file.seek(max(size, 0), 1)
            if following < 0:
                break
            if following > 0:
                file.seek(following)
    return outline


def part_before(path: Path) -> Path | None:
    """
    The file whose recording goes on in this one; `None` if this is the first part, or the one before is not there.

    Epochs do not say what they follow, so the part before must say that this one comes next.
    """
    for pattern in (_COUNTED, _SPLIT):
        if (name := pattern.fullmatch(path.name)) is None:
            continue
        number = int(name["number"]) - 1
        middle = f"-{number}" * bool(number) if pattern is _COUNTED else f"{number:0{len(name['number'])}}"
        before = path.with_name(f"{name['head']}{middle}{name['tail']}")
        if number >= 0 and before.is_file() and read_fif_outline(before).next == path.name:
            return before
    return None


__all__ = ["FIFOutline", "part_before", "read_fif_outline"]
