"""
What a file is by its first bytes, whatever its ending says. Downloads that failed, packed files, and recordings under
a wrong ending are named before a reader stumbles over them.
"""

import re
from pathlib import Path


_DOWNLOAD = "Perhaps a log-in or error page was saved: get the file itself."
_UNPACK = "Unpack it and open what is in it."
# What is not a recording: its first bytes, what it is, what to do.
_OTHERS = (
    (rb"\s*<(!doctype html|html|head|body|script)", "HTML, a web page", _DOWNLOAD),
    (rb"\s*<(\?xml|!--|!doctype|error)", "XML, a text", _DOWNLOAD),
    (rb"\s*\{\s*\"", "JSON, a text", _DOWNLOAD),
    (rb"\s*\{\\rtf", "a text document (RTF)", "Save it as plain text."),
    (rb"version https://git-lfs", "a pointer of Git LFS in place of the file", "Get the file: git lfs pull."),
    (rb"[^\n]{0,200}annex/objects/", "a pointer of git-annex in place of the file", "Get the file: datalad get."),
    (rb"\0\x05\x16[\0\x07]", "what macOS keeps beside a file", "Open the file of this name without ._ before it."),
    (
        rb"PK\x03\x04.{0,2000}(xl/|\[Content_Types\])",
        "an Excel workbook (.xlsx) or the like",
        "Save its table as .csv.",
    ),
    (rb"PK\x03\x04", "a ZIP archive", _UNPACK),
    (rb"\x1f\x8b", "a file packed with gzip", _UNPACK),
    (rb"BZh|\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!", "a packed file", _UNPACK),
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel workbook (.xls) or another Office file",
        "Save its table as .csv.",
    ),
    (rb"%PDF-", "a PDF document", "Open the recording itself."),
    (rb"\x89PNG|\xff\xd8\xff|GIF8", "a picture", "Open the recording itself."),
    (rb".{4}ftyp|RIFF.{4}(AVI |WAVE)|\x1aE\xdf\xa3|ID3", "a video or sound", "Open the recording itself."),
)
# Endings of formats that are packed inside.
_PACKED = {".npz": b"PK", ".fif.gz": b"\x1f\x8b"}
# Recordings: their first bytes, their name and the endings that readers know them by.
_RECORDINGS = (
    (rb"0 {7}.{176}\d+ *", "EDF", (".edf", ".rec")),
    (rb"\xffBIOSEMI", "BDF", (".bdf",)),
    (rb"GDF \d", "GDF", (".gdf",)),
    (rb"\0\0\0\x64\0\0\0\x1f", "FIF", (".fif", ".fif.gz")),
    (rb"Brain ?Vision (Core )?Data Exchange Header", "BrainVision", (".vhdr", ".ahdr")),
    (rb"MATLAB 5", "MATLAB", (".mat", ".set")),
    (rb"XDF:", "XDF", (".xdf",)),
    (rb"\x93NUMPY", "NumPy", (".npy",)),
)
# These and what else readers know by its ending.
_ENDINGS = {ending for *_, endings in _RECORDINGS for ending in endings}
_ENDINGS |= {".cnt", ".csv", ".eeg", ".dat", ".lay", ".mff", ".npz", ".nxe", ".raw", ".tsv", ".txt"}


def refuse_foreign_content(path: Path) -> None:
    """
    Raises:
        ValueError: where a file's first bytes show that it is no recording, or one of another format than its ending
            says; names what it is and what to do.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):  # text with a mark of its encoding
        start = start.decode("utf-16" if start[0] != 0xEF else "utf-8-sig", errors="ignore").encode()
    ending = ".fif.gz" if path.name.lower().endswith(".fif.gz") else path.suffix.lower()
    if ending in _PACKED and start.startswith(_PACKED[ending]):
        return
    for pattern, what, advice in _OTHERS:
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            raise ValueError(f"This is not {_named(ending)}, it looks like {what}. {advice}")
    for pattern, name, endings in _RECORDINGS:
        if re.match(pattern, start, re.DOTALL) and ending not in endings:
            raise ValueError(
                f"This looks like {name}, but the reader is chosen by the ending, "
                f"{ending or 'which is missing'}. Rename the file to {path.stem}{endings[0]}."
            )


def _named(ending: str) -> str:
    if ending not in _ENDINGS:
        return "a recording"
    return f"{'an' if ending[1] in 'aeiox' else 'a'} {ending[1:].upper()} file"


__all__ = ["refuse_foreign_content"]
