"""
Tables of text (.csv, .tsv, .txt): a row for each sample, a column for each channel, beside columns of other kinds.

Every name gets its own column, or the table is refused: header and rows may differ, and nothing in the file says how.
The shapes that are known are those of OpenBCI's GUI, EmotivPRO, Mind Monitor, muse-lsl, OpenViBE, R, pandas and numpy.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..channel_names import is_electrode, is_pair
from ..electrodes import resolve_channel
from ..units import NO_UNIT, microvolts_of
from .array_file import ArrayFile
from .clock import breaks_by_counter, clock_at, clock_of_stamps, joined_breaks, read_stamps
from .text import THOUSANDS, Text, is_number, read_text


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
_PERSON = re.compile(r"(subject|participant|patient|person)s?([ _.]?(id|name|num|number|code))?", re.IGNORECASE)
_NO_SIGNAL = re.compile(
    rf"{_PERSON.pattern}|(label|class|target|event|condition|id|stimulus|response|key|state)s?"
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
    text = read_text(path)
    table = text.table()
    found = ArrayFile(np.empty((0, 0)), notes=[f"table: {len(table)} rows", *text.notes])
    names = _names(text, table, channel_names, found)
    _read_comments(text.comments, found)
    signal = _signal_columns(table, names, text.comments, found)
    _refuse_channels_in_rows(table, names, signal)
    for k in signal:
        table[k] = _as_numbers(table[k], _named(names, k), text)
    if names is None and channel_names is not None and len(channel_names) != len(signal):
        raise ValueError(
            f"Got {len(channel_names)} channel names for {len(signal)} columns of numbers ({len(table)} rows, no "
            "header). Name every column, those that are no EEG 'time', 'counter' or 'marker'; or, if a row is a "
            "channel, transpose the table."
        )
    _refuse_several_people(table, names)
    table = _without_repeated_rows(table, names, found)
    table, remarks = _remarks(table, signal)
    _read_rate(table, names, found)
    _read_clock(table, names, signal, text, sampling_rate, found)
    _note_events(table, names, remarks, sampling_rate, found)
    found.values = table[signal].to_numpy(dtype=float).T
    if names is not None:
        found.names, found.unit_of = _names_and_units(
            [names[k] for k in signal], [text.units[k] for k in signal] if text.units else []
        )
        found.names_given = text.header is None
    return found


# Names


def _names(text: Text, table: pd.DataFrame, channel_names: Sequence[str] | None, found: ArrayFile) -> list[str] | None:
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
    if not names[0] and not pd.api.types.is_numeric_dtype(table[0]) and read_stamps(table[0], "", None) is not None:
        names[0] = "time"  # pandas' index of dates
    if all(cell.isdigit() for cell in names if cell):
        found.notes.append("names: the first line numbers the columns and is not read as a sample")
        return None if names[0] or len(channel_names or ()) != columns - 1 else ["", *channel_names]
    if len(names) != columns:
        raise ValueError(
            f"The header has {len(names)} names, but the rows have {columns} cells: {', '.join(names)} above "
            f"{text.rows[0]!r:.120}. Nothing says which column has no name: mend the header."
        )
    if names[-1] and empty[columns - 1] and _no_signal(names[-1]) is None:
        raise ValueError(
            f"The last column, {names[-1]!r}, is empty: do the rows end with a separator, and is one name too many in "
            f"the header ({', '.join(names)})? Mend the header, or remove the empty column."
        )
    numbers = [name for name in names if is_number(name) and not name.isdigit() and name.lower() not in NO_UNIT]
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
        float(re.sub(r",(\d{3})$", r"\1", number).replace(",", ".")) * (1000 if kilo else 1)
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


def _refuse_channels_in_rows(table: pd.DataFrame, names: list[str] | None, signal: list[int]) -> None:
    """A row for each sample of each channel, as in tables for statistics: beside one column of numbers, the names."""
    for k in table:
        if len(signal) > 1 or k in signal or pd.api.types.is_numeric_dtype(table[k]):
            continue
        values = [str(value) for value in table[k].dropna().unique()[:1000]]
        if len(values) > 1 and sum(_is_site(value) for value in values) > len(values) / 2:
            column, value = _named(names, k), _named(names, signal[0])
            kinds = (_TRIAL.fullmatch, _TIME.match, _COUNTER.fullmatch)
            index = [name for kind in kinds for name in names or () if name and kind(name)] or ["sample"]
            raise ValueError(
                f"A row holds one channel only: {column!r} has their names ({', '.join(values[:3])}, ...). Write a "
                f"column for each channel, with pandas: table.pivot(index={index}, columns={column!r}, "
                f"values={value!r}), where {' and '.join(index)} tell the samples apart."
            )


def _is_site(name: str) -> bool:
    meaning = resolve_channel(name)
    return is_electrode(meaning) or is_pair(meaning)


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
    if _is_site(name):
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
    meaning = resolve_channel(name)
    return _KINDS.get(meaning.removeprefix("non-eeg:")) if meaning.startswith("non-eeg:") else None


def _as_numbers(column: pd.Series, name: str, text: Text) -> pd.Series:
    """
    Raises:
        ValueError: for the first cell that is neither empty nor a number.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    bad = column[numbers.isna() & column.notna()]
    if len(bad):
        hint = " Write numbers without thousands separators." if THOUSANDS.fullmatch(str(bad.iloc[0])) else ""
        raise ValueError(
            f"{name} has {bad.iloc[0]!r} in line {text.numbers[bad.index[0]]} ({len(bad)} cells are no numbers)."
            f"{hint} Empty the cells that have no value, or remove the column."
        )
    return numbers.astype(float)


# Rows


def _refuse_several_people(table: pd.DataFrame, names: list[str] | None) -> None:
    for k, name in enumerate(names or ()):
        if _PERSON.fullmatch(name) and (people := table[k].dropna().unique()).size > 1:
            raise ValueError(
                f"The table holds {len(people)} people ({name}: {', '.join(map(str, people[:4]))}"
                f"{', ...' * (len(people) > 4)}). Write a table for each: a recording is of one person."
            )


def _without_repeated_rows(table: pd.DataFrame, names: list[str] | None, found: ArrayFile) -> pd.DataFrame:
    """Rows that repeat the one before, time stamp and all, are one sample."""
    if not any(_TIME.match(name) for name in names or ()):
        return table
    stamps = [k for k, name in enumerate(names) if _TIME.match(name)]
    alike = np.flatnonzero((table[stamps] == table[stamps].shift()).all(axis=1))
    rows, before = table.iloc[alike].to_numpy(dtype=object), table.iloc[alike - 1].to_numpy(dtype=object)
    repeated = np.zeros(len(table), dtype=bool)
    repeated[alike] = ((rows == before) | (pd.isna(rows) & pd.isna(before))).all(axis=1)
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
    table: pd.DataFrame,
    names: list[str] | None,
    signal: list[int],
    text: Text,
    sampling_rate: float | None,
    found: ArrayFile,
) -> None:
    """Rate and gaps by time stamps and by numbers of packets; without time stamps, trials are parted by a gap."""
    others = [k for k in table if k not in signal]
    numbers = [k for k in others if pd.api.types.is_numeric_dtype(table[k])]
    if names is None:
        stamps, counters, trials = [k for k in others if k not in numbers], [k for k in numbers if k == 0], []
    else:
        stamps = sorted((k for k in others if _TIME.match(names[k])), key=lambda k: k not in numbers)
        counters = [k for k in numbers if _COUNTER.fullmatch(names[k])]
        trials = [k for k in others if _TRIAL.fullmatch(names[k])]
    has_stamps = _read_stamps(table, names, stamps, text, sampling_rate, found)
    if (rate := sampling_rate or found.sampling_rate) is None:
        return
    if counters:
        breaks, notes = breaks_by_counter(table[counters[0]].to_numpy(dtype=float), rate)
        found.breaks = joined_breaks(found.breaks, breaks, rate)
        found.notes += notes
    if trials and not has_stamps:
        _part_trials(table[trials[0]], names[trials[0]], rate, found)


def _read_stamps(
    table: pd.DataFrame,
    names: list[str] | None,
    columns: list[int],
    text: Text,
    sampling_rate: float | None,
    found: ArrayFile,
) -> bool:
    """
    Rate and gaps by the first of some columns that holds time stamps; whether there is one.

    Raises:
        ValueError: where some stamps are missing, or the stamps contradict each other or the rate.
    """
    stated = sampling_rate or found.sampling_rate
    for k in columns:
        name, missing = _named(names, k), table[k].isna().mean()
        if missing > 0.5:
            continue
        if missing:
            raise ValueError(f"{name}: {missing:.2%} of the rows have no time stamp. Fill them, or remove the column.")
        if pd.to_numeric(table[k], errors="coerce").notna().mean() > 0.5:
            table[k] = _as_numbers(table[k], name, text)
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
            return True
        if names is not None:
            found.notes.append(f"note: {name} holds no times that can be read; gaps are not looked for in it")
    return False


def _part_trials(trials: pd.Series, name: str, rate: float, found: ArrayFile) -> None:
    """A gap of unknown length wherever the number of the trial changes; time between trials may have none."""
    before = trials.shift()
    changes = np.flatnonzero(((trials != before) & (trials.notna() | before.notna())).to_numpy()[1:]) + 1
    if len(changes) >= len(trials) / 10:
        found.notes.append(f"note: {name!r} changes {len(changes)} times, so it numbers no trials; no gaps by it")
    elif len(changes):
        found.breaks = joined_breaks(found.breaks, [(int(at), 0.0) for at in changes], rate)
        count = int(trials.iloc[[0, *changes]].notna().sum())
        found.notes.append(f"trials: {count} by {name!r}, a gap of unknown length between any two")


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
