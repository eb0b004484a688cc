"""
Tables of text as header and rows: encoding, separator, decimal mark, comments, and where the rows begin.

The rows tell, of which there are many, rather than the header.
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..channel_names import is_electrode, is_pair
from ..electrodes import resolve_channel
from ..units import NO_UNIT, microvolts_of


_SEPARATORS = (";", "\t", ",", "|", None)  # None: blanks
_COMMENT = ("%", "#", "//")
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)|na|n/a|null", re.IGNORECASE)
THOUSANDS = re.compile(r"[-+]?(\d{1,3}(,\d{3})+\.\d+|\d{1,3}(,\d{3}){2,}|\d{1,3}(\.\d{3})+,\d+|\d{1,3}(\.\d{3}){2,})")


@dataclass
class Text:
    """
    The parts of the text.

    Args:
        comments: lines that are neither header nor rows.
        header: cells above the rows, if there are names.
        units: cells between names and rows, if there are units.
        rows: lines, and their numbers in the file.
        separator: of cells; `None` = blanks.
        columns: cells in a row.
        notes: for the report.
    """

    comments: list[str]
    header: list[str] | None
    units: list[str] | None
    rows: list[str]
    numbers: list[int]
    separator: str | None
    columns: int
    notes: list[str] = field(default_factory=list)

    def table(self) -> pd.DataFrame:
        """The cells, columns numbered from 0, with numbers where all cells of a column are numbers."""
        cells = [cell for line in self.rows[:1000] for cell in _cells(line, self.separator)]
        # numbers with two kinds of marks; between commas only within quotes
        two_marks = r"\d\.\d+,\d|\d,\d+\.\d" if self.separator != "," else r'"[-+]?[\d.,]*\d[.,]\d+[.,][\d.,]*"'
        for number, line in zip(self.numbers, self.rows, strict=True):
            if ("," in line if self.separator != "," else '"' in line) and re.search(two_marks, line):
                raise ValueError(
                    f"Line {number} has thousands separators: {line!r:.80}. Write the numbers without them."
                )
        commas = [cell for cell in cells if "," in cell and is_number(cell)]
        # 1,234 is a number with thousands, or with three decimals: others tell
        if commas and all(re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", cell) for cell in commas):
            raise ValueError(
                f"Cells such as {commas[0]} are a number above a thousand, or one with three decimals: nothing in the "
                "table tells. Write it with a decimal point."
            )
        table = pd.read_csv(
            io.StringIO("\n".join(self.rows)),
            sep=r"\s+" if self.separator is None else self.separator,
            header=None,
            names=range(self.columns),
            index_col=False,
            decimal="," if commas else ".",
            skipinitialspace=True,
            low_memory=False,
        )
        for k in table:
            if not pd.api.types.is_numeric_dtype(table[k]):
                table[k] = table[k].map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
        return table


def read_text(path: Path) -> Text:
    """
    Raises:
        ValueError: where this is no table of text, or rows have different numbers of cells.
    """
    return _parts(_decoded(path))


def _decoded(path: Path) -> str:
    """Text in UTF-8, UTF-16 or, where neither fits, Latin-1."""
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if data[:400].count(0) > len(data[:400]) // 4:
        for encoding, zeros in (("utf-16-le", data[1:400:2]), ("utf-16-be", data[:400:2])):
            if zeros.count(0) > 0.9 * len(zeros):
                return data.decode(encoding)
    if b"\0" in data[:4096]:
        raise ValueError("This is not a table of text: it has zero bytes. Is it a binary file under a wrong ending?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None:
        cells = next(csv.reader([re.sub(r"\s+", " ", line.strip())], delimiter=" ")) if '"' in line else line.split()
    elif '"' in line:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    else:
        cells = line.split(separator)
    return [cell.strip() for cell in cells]


def is_number(cell: str) -> bool:
    """Whether a cell is meant as a number, with a decimal point or comma, or with thousands separators."""
    return _NUMBER.fullmatch(cell) is not None or THOUSANDS.fullmatch(cell) is not None


def _parts(content: str) -> Text:
    """Finds separator, header and rows from the rows, of which there are many, rather than from the header."""
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" \t")]
    comments = {number: line for number, line in filled if line.lstrip().startswith(_COMMENT)}
    kept = [(number, line) for number, line in filled if number not in comments]
    if not kept:
        raise ValueError("The table is empty.")
    separator, columns = _shape([line for _, line in kept])
    first = _first_row([line for _, line in kept[:200]], separator, columns)
    above, kept = [line for _, line in kept[:first]], kept[first:]
    header, units, said = None, None, list(comments.values())
    if above and _is_units(_cells(above[-1], separator)) and len(above) > 1:
        units = _cells(above.pop(), separator)
    # pairs such as 'sampling rate:128' are names only if they are as many as columns
    if above and not (_is_pairs(cells := _cells(above[-1], separator)) and len(cells) != columns):
        header = _cells(above.pop(), separator)
    for line in above:
        if not _is_pairs(_cells(line, separator)):
            raise ValueError(
                f"The table has {len(above) + 1} lines above its rows, of which {line!r:.80} is neither names of "
                "columns nor pairs such as 'sampling rate: 250'. Keep one line of names, and begin others with #."
            )
        said += _cells(line, separator)
    if header is None:
        header = _names_in_comments(said, separator, columns)
    rows, numbers = [line for _, line in kept], [number for number, _ in kept]
    text = Text(said, header, units, rows, numbers, separator, columns)
    if among := sum(number > numbers[0] for number in comments):
        text.notes.append(f"note: {among} comments among the rows are not read")
    _check_rows(text)
    return text


def _shape(lines: list[str]) -> tuple[str | None, int]:
    """The separator by which most cells of the rows are numbers, and how many cells most rows have."""
    sample = [lines[k] for k in np.unique(np.linspace(0, len(lines) - 1, 40).astype(int))]
    best, chosen = -1.0, (None, 1)
    for separator in _SEPARATORS:
        rows = [_cells(line, separator) for line in sample]
        columns, frequent = Counter(map(len, rows)).most_common(1)[0]
        cells = [cell for row in rows if len(row) == columns for cell in row]
        score = sum(map(is_number, cells)) / len(cells) * frequent / len(sample) + (columns > 1)
        # blanks come last: they would swallow empty cells between tabs
        if (columns > 1 or separator is None) and score > best + 0.1:
            best, chosen = score, (separator, columns)
    return chosen


def _first_row(lines: list[str], separator: str | None, columns: int) -> int:
    """Number of the first line that is a row: it has the cells of a row, and numbers where the next one has some."""
    rows = [_cells(line, separator) for line in lines]
    typical = next((row for row in reversed(rows) if len(row) == columns), rows[-1])
    where = [k for k, cell in enumerate(typical) if is_number(cell)]
    if not where:
        words = "The table has no column of numbers"
        if sum(bool(re.fullmatch(r"[0-9A-F]{6}", cell)) for cell in typical) > len(typical) / 3:
            raise ValueError(
                f"{words}: its cells are hexadecimal, as on an OpenBCI board's SD card. Convert it with OpenBCI's GUI."
            )
        raise ValueError(f"{words}; its first line is {lines[0]!r:.80}.")
    for number, row in enumerate(rows):
        numeric = sum(is_number(row[k]) for k in where) if len(row) == columns else 0
        if numeric > len(where) / 2 and not (number == 0 and _is_numbering(row, typical)):
            return number
    return 0


def _is_numbering(row: list[str], typical: list[str]) -> bool:
    """Whether these are numbers of channels (1, 2, 3, ...; perhaps with an empty first cell), not samples."""
    cells = row[1:] if row and not row[0] else row
    counts = [[str(k + first) for k in range(len(cells))] for first in (0, 1)]
    return len(cells) > 1 and cells in counts and any("." in cell or "," in cell for cell in typical)


def _is_units(cells: list[str]) -> bool:
    plain = [cell.strip("()[] ").lower() for cell in cells]
    times = ("s", "sec", "ms", "us", "hz")
    return any(map(microvolts_of, plain)) and all(microvolts_of(c) or c in NO_UNIT or c in times for c in plain)


def _is_pairs(cells: list[str]) -> bool:
    """`title:a, sampling rate:128, ...` or `Sampling rate = 250`."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and (
        all(re.match(r"[^:=]+[:=]", cell) for cell in filled) or (len(filled) == 2 and filled[0].endswith((":", "=")))
    )


def _names_in_comments(comments: list[str], separator: str | None, columns: int) -> list[str] | None:
    """`labels:COUNTER AF3 F7 ...` (Emotiv), or the last comment above the rows if it is a line of names (numpy)."""
    for comment in comments:
        labels = re.match(r"labels\s*:\s*(.*)", comment, re.IGNORECASE)
        if labels and len(labels[1].split()) == columns:
            return labels[1].split()
    for comment in reversed(comments):
        cells = _cells(comment.lstrip("%#/ "), separator)
        known = [cell for cell in cells if is_electrode(found := resolve_channel(cell)) or is_pair(found)]
        if len(cells) == columns and len(known) > len(cells) / 2:
            return cells
    return None


def _check_rows(text: Text) -> None:
    """Refuses rows of unequal length; a last one that was cut off while it was written is left out with a note."""
    if text.separator is None:
        counts = [len(line.split()) if '"' not in line else len(_cells(line, None)) for line in text.rows]
    else:
        counts = [
            line.count(text.separator) + 1 if '"' not in line else len(_cells(line, text.separator))
            for line in text.rows
        ]
    odd = [k for k, count in enumerate(counts) if count != text.columns]
    if odd == [len(counts) - 1] and len(counts) > 2 and counts[-1] < text.columns:
        text.notes.append(f"note: the last line ({text.numbers.pop()}) is cut off and left out")
        text.rows.pop()
    elif odd:
        at = odd[0]
        raise ValueError(
            f"Line {text.numbers[at]} has {counts[at]} cells, but most rows have {text.columns} ({len(odd)} rows "
            "differ). Nothing says which cells are missing: mend or remove these rows."
        )


__all__ = ["THOUSANDS", "Text", "is_number", "read_text"]
