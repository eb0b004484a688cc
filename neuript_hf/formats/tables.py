"""
Tables of text (.csv, .tsv, .txt): a row for each sample, a column for each channel, beside columns of other kinds.

Every name gets its own column, or the table is refused: header and rows may differ, and nothing in the file says how.
The shapes that are known are those of OpenBCI's GUI, EmotivPRO, Mind Monitor, muse-lsl, OpenViBE, R, pandas and numpy.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..channel_names import is_electrode, is_pair
from ..electrodes import resolve_channel
from ..units import NO_UNIT, microvolts_of
from .array_file import ArrayFile
from .clock import breaks_by_counter, clock_at, clock_of_stamps, joined_breaks, read_stamps


_SEPARATORS = (";", "\t", ",", "|", None)  # None: blanks
_COMMENT = ("%", "#", "//")
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)|na|n/a|null", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?(\d{1,3}(,\d{3})+\.\d+|\d{1,3}(,\d{3}){2,}|\d{1,3}(\.\d{3})+,\d+|\d{1,3}(\.\d{3}){2,})")
# Words between blanks or the like, in the names of columns that are not signal.
_TIME = re.compile(
    r"(eeg[ ._])?(lsl|local|unix|original|system|device)?[ _]?(time|date)|t$|ts$|t[ _]*[(\[]|secs?\b|second|ms$",
    re.IGNORECASE,
)
_COUNTER = re.compile(
    r"(eeg[ ._])?(sample|packet|package|counter|index|idx|seq|sequence|frame|row)[ _.]*"
    r"(index|idx|num|number|no|nr|count|counter|id|s)?[.:]?|unnamed: ?\d+|#|n[or]?\.?|",
    re.IGNORECASE,
)
_TRIAL = re.compile(
    r"(trial|epoch|segment|block|run|session|recording)[ _.]*(index|num|number|no|nr|id|s)?", re.IGNORECASE
)
_RATE = re.compile(r"(sampl(ing|e)[ _]?(rate|freq\w*)|sfreq|srate|fs)", re.IGNORECASE)
_NO_SIGNAL = re.compile(
    r"(label|class|target|event|condition|subject|participant|person|id|stimulus|response|key|state)s?"
    r"([ _.]?(id|name|num|number|code|type|date|duration))?|"
    r"(pm|fe|fac|perf|mc|dev)[.].*|optics?[ _]?\d+|not used|other|unused",
    re.IGNORECASE,
)
_KINDS = {
    "AUX": "an auxiliary column (time, counter, motion, battery), not EEG",
    "QUALITY": "the quality of a contact, not EEG",
    "TRIG": "a marker, not EEG",
    "DERIVED": "derived from the EEG",
}


@dataclass
class _Text:
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


def read_text_table(path: Path, sampling_rate: float | None, channel_names: Sequence[str] | None) -> ArrayFile:
    """
    Args:
        path: the file.
        sampling_rate: the user's, in hertz; it says the unit of time stamps that do not.
        channel_names: the user's; if they are as many as the columns of a table without names, they name all of these.

    Raises:
        ValueError: where names and columns cannot be matched, a row has more or fewer cells than the others, a cell of
            a signal is not a number, or the time stamps contradict each other or the rate.
    """
    text = _parts(_decoded(path))
    table = _read_rows(text)
    found = ArrayFile(np.empty((0, 0)), notes=[f"table: {len(table)} rows", *text.notes])
    names = _names(text, table, channel_names, found)
    _read_comments(text.comments, found)
    signal = _signal_columns(table, names, text.comments, found)
    for k in signal:
        table[k] = _as_numbers(table[k], _named(names, k), text)
    if names is None and channel_names is not None and len(channel_names) != len(signal):
        raise ValueError(
            f"Got {len(channel_names)} channel names for {len(signal)} columns of numbers ({len(table)} rows, no "
            "header). Name every column, those that are no EEG 'time', 'counter' or 'marker'; or, if a row is a "
            "channel, transpose the table."
        )
    table = _without_repeated_rows(table, names, found)
    table, remarks = _remarks(table, signal)
    _read_rate(table, names, found)
    _read_clock(table, names, signal, sampling_rate, found)
    _note_events(table, names, remarks, sampling_rate, found)
    found.values = table[signal].to_numpy(dtype=float).T
    if names is not None:
        found.names, found.unit_of = _names_and_units(
            [names[k] for k in signal], [text.units[k] for k in signal] if text.units else []
        )
        found.names_given = text.header is None
    return found


# The text and its parts


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


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def _parts(content: str) -> _Text:
    """Finds separator, header and rows from the rows, of which there are many, rather than from the header."""
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" \t")]
    comments = [line for _, line in kept if line.lstrip().startswith(_COMMENT)]
    kept = [(number, line) for number, line in kept if not line.lstrip().startswith(_COMMENT)]
    if not kept:
        raise ValueError("The table is empty.")
    separator, columns = _shape([line for _, line in kept])
    first = _first_row([line for _, line in kept[:200]], separator, columns)
    above, kept = [line for _, line in kept[:first]], kept[first:]
    header, units = None, None
    if above and _is_units(_cells(above[-1], separator)) and len(above) > 1:
        units = _cells(above.pop(), separator)
    if above and not (
        _is_pairs(_cells(above[-1], separator)) and abs(len(_cells(above[-1], separator)) - columns) > 1
    ):
        header = _cells(above.pop(), separator)
    for line in above:
        if not _is_pairs(_cells(line, separator)):
            raise ValueError(
                f"The table has {len(above) + 1} lines above its rows, of which {line!r:.80} is neither names of "
                "columns nor pairs such as 'sampling rate: 250'. Keep one line of names, and begin others with #."
            )
        comments += _cells(line, separator)
    if header is None:
        header = _names_in_comments(comments, separator, columns)
    text = _Text(
        comments, header, units, [line for _, line in kept], [number for number, _ in kept], separator, columns
    )
    _check_rows(text)
    return text


def _shape(lines: list[str]) -> tuple[str | None, int]:
    """The separator by which most cells of the rows are numbers, and how many cells most rows have."""
    sample = [lines[k] for k in np.unique(np.linspace(0, len(lines) - 1, 40).astype(int))]
    best = (0.0, 0, ",", 1)
    for order, separator in enumerate(_SEPARATORS):
        rows = [_cells(line, separator) for line in sample]
        columns, frequent = Counter(map(len, rows)).most_common(1)[0]
        cells = [cell for row in rows if len(row) == columns for cell in row]
        numbers = sum(map(_is_number, cells)) / len(cells)
        if columns > 1 or separator is None:
            best = max(
                best,
                (numbers * frequent / len(sample) + (columns > 1), -order, separator, columns),
                key=lambda b: b[:2],
            )
    _, _, separator, columns = best
    return separator, columns


def _first_row(lines: list[str], separator: str | None, columns: int) -> int:
    """Number of the first line that is a row: it has the cells of a row, and numbers where the next one has some."""
    rows = [_cells(line, separator) for line in lines]
    typical = next((row for row in reversed(rows) if len(row) == columns), rows[-1])
    where = [k for k, cell in enumerate(typical) if _is_number(cell)]
    if not where:
        words = "The table has no column of numbers"
        if sum(bool(re.fullmatch(r"[0-9A-F]{6}", cell)) for cell in typical) > len(typical) / 3:
            raise ValueError(
                f"{words}: its cells are hexadecimal, as on an OpenBCI board's SD card. Convert it with OpenBCI's GUI."
            )
        if any(map(_THOUSANDS.fullmatch, typical)):
            raise ValueError(f"{words}: {typical[:4]} have thousands separators. Write the numbers without them.")
        raise ValueError(f"{words}; its first line is {lines[0]!r:.80}.")
    for number, row in enumerate(rows):
        numeric = sum(_is_number(row[k]) for k in where) if len(row) == columns else 0
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


def _check_rows(text: _Text) -> None:
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


def _read_rows(text: _Text) -> pd.DataFrame:
    """The cells, columns numbered from 0, with numbers where all cells of a column are numbers."""
    sample = [cell for line in text.rows[:1000] for cell in _cells(line, text.separator)]
    commas = [cell for cell in sample if "," in cell and _is_number(cell)]
    # 1,234 is a number with thousands, or with three decimals: others tell
    if commas and all(re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", cell) for cell in commas):
        raise ValueError(
            f"Cells such as {commas[0]} are a number above a thousand, or one with three decimals: nothing in the "
            "table tells. Write it with a decimal point."
        )
    table = pd.read_csv(
        io.StringIO("\n".join(text.rows)),
        sep=r"\s+" if text.separator is None else text.separator,
        header=None,
        names=range(text.columns),
        index_col=False,
        decimal="," if commas else ".",
        skipinitialspace=True,
        low_memory=False,
    )
    for k in table:
        if table[k].dtype == object or pd.api.types.is_string_dtype(table[k]):
            table[k] = table[k].str.strip() if pd.api.types.is_string_dtype(table[k]) else table[k]
    return table


# Names


def _names(
    text: _Text, table: pd.DataFrame, channel_names: Sequence[str] | None, found: ArrayFile
) -> list[str] | None:
    """
    A name for every column, `""` where it has none; `None` without a header.

    Raises:
        ValueError: where header and rows do not fit.
    """
    columns = text.columns
    if text.header is None:
        return list(channel_names) if channel_names is not None and len(channel_names) == columns else None
    names, empty = list(text.header), table.isna().all()
    while len(names) > columns and not names[-1]:
        names.pop()  # separators at the end of the line
    if len(names) < columns and empty[len(names) :].all():
        names += [""] * (columns - len(names))
    if (
        len(names) == columns - 1
        and _counts_rows(table[0])
        and not (_COUNTER.fullmatch(names[0]) or _TIME.match(names[0]))
    ):
        names.insert(0, "")
        found.notes.append("names: the first column has none and counts the rows, as R writes it")
    if all(cell.isdigit() for cell in names if cell):
        found.notes.append("names: the first line numbers the columns and is not read as a sample")
        return None if names[0] or len(channel_names or ()) != columns - 1 else ["", *channel_names]
    if len(names) != columns:
        raise ValueError(
            f"The header has {len(names)} names, but the rows have {columns} cells: {', '.join(names)} above "
            f"{text.rows[0]!r:.120}. Nothing says which column has no name: mend the header."
        )
    numbers = [name for name in names if _is_number(name) and not name.isdigit() and name.lower() not in NO_UNIT]
    unnamed = [k for k, name in enumerate(names) if not name and not empty[k] and not (k == 0 and _is_whole(table[k]))]
    if numbers or unnamed:
        what = f"the number {numbers[0]} among its names" if numbers else f"no name for column {unnamed[0] + 1}"
        raise ValueError(f"The header ({', '.join(names)}) has {what}. Mend it, so that each column has a name.")
    return names


def _is_whole(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and (column % 1 == 0).all())


def _counts_rows(column: pd.Series) -> bool:
    """Whether a column counts 0, 1, 2, ... or 1, 2, 3, ..."""
    return _is_whole(column) and column.iloc[0] in (0, 1) and bool((column.diff().iloc[1:] == 1).all())


def _named(names: list[str] | None, column: int) -> str:
    return names[column] if names is not None and names[column] else f"column {column + 1}"


def _names_and_units(columns: list[str], units_below: list[str]) -> tuple[list[str], list[str | None]]:
    """
    `"Fp1 (uV)"` -> a name and its unit; or the unit from the line below the names.

    Raises:
        ValueError: where two columns have the same name.
    """
    names, units = [], []
    for column, below in zip(columns, units_below or [""] * len(columns), strict=True):
        match = re.fullmatch(r"(.*?)\s*[\[(]([^\])]*)[\])]", column)
        unit = match[2] if match and microvolts_of(match[2]) else None
        names.append(match[1] if unit else column)
        units.append(unit or below.strip("()[] ") or None)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"Several columns have the same name: {', '.join(twice)}. Give each its own, or remove one.")
    return names, units


# What comments say


def _read_comments(comments: list[str], found: ArrayFile) -> None:
    """`%Sample Rate = 250 Hz`, `sampling rate:128` and the like."""
    joined = "\n".join(comments)
    rates = {
        float(number.replace(",", ".")) * (1000 if kilo else 1)
        for number, kilo in re.findall(
            r"(?:sampl(?:ing|e)[ _-]?(?:rate|freq\w*)|\bsampling|\bsfreq|\bsrate|\bfs)\s*(?:\(?hz\)?)?\s*[=:]\s*"
            r"(?:eeg_)?(\d+(?:[.,]\d+)?)\s*(k(?=hz))?",
            joined,
            re.IGNORECASE,
        )
    }
    _set_rate(rates, "the lines above the table", found)
    unit = re.search(r"units?\s*[=:]\s*(\S+)", joined, re.IGNORECASE)
    if unit and microvolts_of(unit[1]):
        found.unit = unit[1]
    elif "OpenBCI" in joined or re.search(r"headset type\s*:", joined, re.IGNORECASE):
        found.unit = "uV"  # OpenBCI's GUI and EmotivPRO write microvolts


def _set_rate(rates: set[float], where: str, found: ArrayFile) -> None:
    rates = {rate for rate in rates | {found.sampling_rate or 0.0} if rate > 0}
    if len(rates) > 1:
        raise ValueError(
            f"The table gives several rates ({', '.join(f'{rate:g} Hz' for rate in sorted(rates))}, {where} among "
            "them). Keep the right one."
        )
    found.sampling_rate = rates.pop() if rates else None


def _read_rate(table: pd.DataFrame, names: list[str] | None, found: ArrayFile) -> None:
    """A column `Sampling Rate`, or `Time:512Hz`, as OpenViBE writes them."""
    for k, name in enumerate(names or ()):
        in_name = re.match(r"time\s*:\s*([\d.]+)\s*hz", name, re.IGNORECASE)
        if in_name:
            _set_rate({float(in_name[1])}, f"the column {name!r}", found)
        elif _RATE.fullmatch(name) and pd.api.types.is_numeric_dtype(table[k]):
            _set_rate(set(table[k].dropna().astype(float)), f"the column {name!r}", found)


# Columns


def _signal_columns(table: pd.DataFrame, names: list[str] | None, comments: list[str], found: ArrayFile) -> list[int]:
    """Numbers of the columns that are signal; the others are left out with the reason."""
    reasons = _amplifier(table, names, comments)
    for k in set(table) - set(reasons):
        filled = table[k].dropna()
        numeric = pd.to_numeric(filled, errors="coerce").notna() & (table[k].dtype != bool)
        if names is not None and (reason := _no_signal(names[k])):
            reasons[k] = reason
        elif filled.empty:
            reasons[k] = "empty"
        elif numeric.mean() < 0.5:
            reasons[k] = "not numbers"
    signal = [k for k in table if k not in reasons]
    if not signal:
        columns = {_named(names, k): reason for k, reason in reasons.items()}
        raise ValueError(f"The table has no column of numbers that is a channel; its columns are {columns}.")
    found.left_out |= {
        _named(names, k): reason for k, reason in sorted(reasons.items()) if reason != "empty" or names and names[k]
    }
    return signal


def _amplifier(table: pd.DataFrame, names: list[str] | None, comments: list[str]) -> dict[int, str]:
    """Of a file of OpenBCI's GUI, the columns that are not channels: the channels follow the number of the sample."""
    stated = re.search(r"OpenBCI.*?channels\s*=\s*(\d+)", "\n".join(comments), re.DOTALL)
    channels = [k for k, name in enumerate(names or ()) if re.match(r"EXG Channel \d+", name)]
    if stated and names is None:
        channels = list(range(1, 1 + int(stated[1])))
    if not channels:
        return {}
    if stated and int(stated[1]) != len(channels) or channels[-1] >= len(table.columns):
        raise ValueError(
            f"The header says {stated[1]} channels, but the rows have {len(table.columns)} columns, of which "
            f"{len([k for k in channels if k in table])} are channels. The file may be damaged."
        )
    return {k: "not from the amplifier" for k in table if k not in channels}


def _no_signal(name: str) -> str | None:
    """Why a column of this name is no signal."""
    meaning = resolve_channel(name)
    if is_electrode(meaning) or is_pair(meaning):
        return None
    for pattern, reason in (
        (_TIME.match, "time stamps"),
        (_COUNTER.fullmatch, "a counter"),
        (_TRIAL.fullmatch, "the number of a trial"),
        (_RATE.fullmatch, "the rate"),
        (_NO_SIGNAL.fullmatch, "not a signal by its name"),
    ):
        if pattern(name):
            return reason
    return _KINDS.get(meaning.removeprefix("non-eeg:")) if meaning.startswith("non-eeg:") else None


def _as_numbers(column: pd.Series, name: str, text: _Text) -> pd.Series:
    """
    Raises:
        ValueError: for the first cell that is neither empty nor a number.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    bad = column[numbers.isna() & column.notna()]
    if len(bad):
        hint = " Write numbers without thousands separators." if _THOUSANDS.fullmatch(str(bad.iloc[0])) else ""
        raise ValueError(
            f"{name} has {bad.iloc[0]!r} in line {text.numbers[bad.index[0]]} ({len(bad)} cells are no numbers)."
            f"{hint} Empty the cells that have no value, or remove the column."
        )
    return numbers.astype(float)


# Rows


def _without_repeated_rows(table: pd.DataFrame, names: list[str] | None, found: ArrayFile) -> pd.DataFrame:
    """Rows that repeat the one before, time stamp and all, are one sample."""
    if not any(_TIME.match(name) for name in names or ()):
        return table
    before = table.shift()
    repeated = ((table == before) | (table.isna() & before.isna())).all(axis=1)
    if repeated.any():
        found.notes.append(
            f"note: {int(repeated.sum())} rows repeat the row before, time stamp and all, and are left out"
        )
    return table[~repeated]


def _remarks(table: pd.DataFrame, signal: list[int]) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """
    Rows that hold a text and no sample (Mind Monitor's blinks) are events, not time.

    Returns:
        The rows of samples, and (number of samples before it, text) for each other row.
    """
    texts = [
        k for k in table if k not in signal and not pd.api.types.is_numeric_dtype(table[k]) and table[k].isna().any()
    ]
    remark = table[signal].isna().all(axis=1) & table[texts].notna().any(axis=1)
    before = np.cumsum(~remark)
    events = [(int(before[k]), " ".join(map(str, table.loc[k, texts].dropna()))) for k in table.index[remark]]
    return table[~remark], events


def _read_clock(
    table: pd.DataFrame, names: list[str] | None, signal: list[int], sampling_rate: float | None, found: ArrayFile
) -> None:
    """Rate and gaps by time stamps and by numbers of packets; without either, trials are parted by a gap."""
    stated, clock = sampling_rate or found.sampling_rate, None
    numeric = {k: pd.api.types.is_numeric_dtype(table[k]) for k in table if k not in signal}
    stamps = [k for k in numeric if (_TIME.match(names[k]) if names is not None else not numeric[k])]
    for k in sorted(stamps, key=lambda k: not numeric[k]):
        name, missing = _named(names, k), table[k].isna().mean()
        if clock is not None or missing > 0.5:
            continue
        if missing:
            raise ValueError(f"{name}: {missing:.2%} of the rows have no time stamp. Fill them, or remove the column.")
        seconds = read_stamps(table[k], name, stated)
        if seconds is not None:
            try:
                clock = clock_of_stamps(seconds, name, stated, "sampling_rate" if sampling_rate else "the header")
            except ValueError as error:
                if names is not None or stated is None:
                    raise
                found.notes.append(f"note: {name} has times, which are not used: {error}")  # nothing calls it stamps
                continue
            found.sampling_rate, found.breaks, found.left_out[name] = clock.rate, clock.breaks, "time stamps"
            found.notes += clock.notes
    if (rate := stated or found.sampling_rate) is None:
        return
    for k in [k for k in numeric if numeric[k] and (_COUNTER.fullmatch(names[k]) if names is not None else k == 0)][
        :1
    ]:
        breaks, notes = breaks_by_counter(table[k].to_numpy(dtype=float), rate)
        found.breaks = joined_breaks(found.breaks, breaks, rate)
        found.notes += notes
    trials = [k for k in numeric if names is not None and _TRIAL.fullmatch(names[k])]
    if clock is None and trials:
        changes = np.flatnonzero((table[trials[0]] != table[trials[0]].shift()).to_numpy())[1:]
        if len(changes) < len(table) / 10:
            found.breaks = joined_breaks(found.breaks, [(int(at), 0.0) for at in changes], rate)
            found.notes.append(
                f"trials: {len(changes) + 1} by {names[trials[0]]!r}, a gap of unknown length between any two"
            )


def _note_events(
    table: pd.DataFrame,
    names: list[str] | None,
    remarks: list[tuple[int, str]],
    sampling_rate: float | None,
    found: ArrayFile,
) -> None:
    """Remarks between the samples, and samples that the headset made up, as events."""
    rate = found.sampling_rate or sampling_rate
    if rate is None:
        return
    found.events += [(clock_at(at, rate, found.breaks), 0.0, text) for at, text in remarks]
    for k in (k for k, name in enumerate(names or ()) if "interpolated" in name.lower()):
        made_up = np.diff(np.concatenate([[0], table[k].to_numpy() == 1, [0]]).astype(int))
        for start, stop in zip(np.flatnonzero(made_up > 0), np.flatnonzero(made_up < 0), strict=True):
            found.events.append(
                (clock_at(int(start), rate, found.breaks), float((stop - start) / rate), "BAD_interpolated")
            )


__all__ = ["read_text_table"]
