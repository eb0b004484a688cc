"""
The clock of samples that each have a time stamp, or a packet number: the rate, and where time is missing.

Stamps are late by what radio and computer took, never early, and come in bunches; missing time stays missing. So a gap
is where the earliest stamps of the following second lie later than those of the second before, by the clock of the
rate.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import theilslopes


# Time stamps are rounded and jitter: a rate this close to a whole number is that number.
WHOLE_RATE_TOLERANCE = 1e-3
# A stated rate that the stamps differ from by more than this share is noted, and refused.
NOTED_DIFFERENCE, REFUSED_DIFFERENCE = 0.002, 0.02
# Missing samples, as share of one, that make a gap where the stamps are exact.
_LEAST_MISSING = 0.75
# Less than this many samples missing at one place are no gap, but noted: a window may hold them.
_ONE_SAMPLE = 1.5
# How many times larger than the usual change of the earliest stamps from second to second a gap is.
_ABOVE_JITTER = 12.0
# A gap is longer than this share of what stamps usually are late.
_OF_LATENESS = 0.25
# Seconds before a stamp that are looked at to tell whether the clock was set back.
_LOOK_BACK = 10
# Nearly all steps from stamp to stamp: the others may be gaps.
_USUAL_STEPS = 0.98
# A recording of fewer seconds has no line through the earliest stamp of each.
_LEAST_SECONDS = 8
# What stamps may count, in seconds.
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNIT_IN_NAME = {
    "ms": r"ms\b|_ms|milli",
    "us": r"[uμµ]s\b|_us\b|micro",
    "ns": r"\bns\b|_ns\b|nano",
    "s": r"\bs\b|_s\b|sec",
}


@dataclass
class Clock:
    """
    Args:
        rate: in hertz.
        breaks: samples before which time is missing, with the missing seconds (0 = nobody knows how many).
        notes: for the report.
    """

    rate: float
    breaks: list[tuple[int, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_stamps(stamps: pd.Series, name: str, stated: float | None) -> np.ndarray | None:
    """
    A column of numbers or texts as seconds, float `[T]`.

    Args:
        stamps: numbers in a unit that the name says, or seconds, milli-, micro- or nanoseconds since 1970, or dates.
        name: of the column.
        stated: the rate in hertz, as far as something else says it; it tells the unit of numbers that do not.

    Returns:
        `None` where these are no stamps: some are missing, or texts that are not times.

    Raises:
        ValueError: where numbers could be of several units.
    """
    if not pd.api.types.is_numeric_dtype(stamps):
        return _seconds_of_dates(stamps)
    values = stamps.to_numpy(dtype=float)
    if not np.isfinite(values).all() or len(values) < 2:
        return None
    unit = next((unit for unit, words in _UNIT_IN_NAME.items() if re.search(words, name, re.IGNORECASE)), None)
    # since 1970, in the years 2001 to 2033: this comes before a name such as "seconds"
    unit = next((unit for unit, size in _UNITS.items() if 1e9 < values[0] * size < 2e9), unit)
    return (values - values[0]) * (_UNITS[unit] if unit is not None else _size_by_rate(values, name, stated))


def _seconds_of_dates(stamps: pd.Series) -> np.ndarray | None:
    """Dates, or times of a day, which may pass midnight."""
    texts = stamps.astype(str).str.strip().str.replace(r"^(\d+:\d+:\d+):(\d+)$", r"\1.\2", regex=True)
    if not texts.str.contains(r"\d[:/-]\d").all():
        return None
    if texts.str.match(r"-?\d+ days?\b").all():  # pandas' differences of times
        return pd.to_timedelta(texts).dt.total_seconds().to_numpy()
    dates = pd.to_datetime(texts, format="mixed", errors="coerce")
    if dates.isna().any() or len(dates) < 2:
        return None
    seconds = (dates - dates.iloc[0]).dt.total_seconds().to_numpy()
    midnights = np.cumsum(np.diff(seconds, prepend=0.0) < -43200)
    return seconds + 86400.0 * midnights if re.fullmatch(r"[\d:.,]+", texts.iloc[0]) else seconds


def _size_by_rate(values: np.ndarray, name: str, stated: float | None) -> float:
    """Seconds by which numbers fit the stated rate, which may count samples; without one, 1 if they are fractions."""
    step = 1 / _typical_rate(values)
    if stated is not None and step > 0:
        size = min(_UNITS.values(), key=lambda size: abs(np.log(step * size * stated)))
        return 1 / stated if step == 1 and abs(size * stated - 1) > REFUSED_DIFFERENCE else size
    if step < 1:
        return 1.0
    raise ValueError(
        f"The column {name!r} grows by {step:g} from row to row: seconds, milliseconds, or a number of the sample? "
        "Say it with the rate: sampling_rate=250."
    )


def _typical_rate(seconds: np.ndarray) -> float:
    """Samples per second, but for steps that are much longer than nearly all others."""
    steps = np.diff(seconds)
    usual = steps[np.abs(steps) <= 1.5 * np.quantile(steps, _USUAL_STEPS)]
    if usual.sum() > 0:
        return float(len(usual) / usual.sum())
    changes = np.flatnonzero(steps) + 1  # many samples have the same stamp, such as a whole second
    counts, jumps = np.median(np.diff(changes, prepend=0)), np.median(steps[steps != 0]) if len(changes) else 0.0
    return float(counts / jumps) if jumps > 0 else np.inf


def clock_of_stamps(
    seconds: np.ndarray,
    name: str,
    stated: float | None,
    said_by: str = "the header",
    otherwise: str = "remove the time stamps",
) -> Clock:
    """
    The rate and the gaps of samples with a time stamp each.

    Args:
        seconds: float `[T]`.
        name: of the column, for messages.
        stated: the rate that something else says, in hertz.
        said_by: who says so.
        otherwise: what to do where the stamps are wrong.

    Raises:
        ValueError: where the stamps are not in the order of time, or contradict the stated rate.
    """
    typical = _typical_rate(seconds)
    back = np.diff(seconds) < -1.0
    if not np.isfinite(typical) or back.sum() > max(3, 0.01 * len(seconds)):
        raise ValueError(
            f"The time stamps in {name!r} do not ascend: of {len(seconds)} rows, {int((np.diff(seconds) <= 0).sum())} "
            "are not later than the row before. Sort the rows by time; or, if the rows are in order and the stamps "
            "mean nothing, remove this column and give sampling_rate=250."
        )
    rate, breaks = typical, []
    for _ in range(3):  # the better the rate is known, the smaller a gap is found, and the other way about
        breaks, before = _jumps(seconds, rate), rate
        rate = _rate_without(seconds, breaks, rate)
        if not 0.5 < rate / typical < 2:  # no line through these stamps
            rate = typical
        if abs(rate / before - 1) < 1e-5:
            break
    back = [at for at, gap in breaks if gap < 0]
    notes = []
    if back:
        notes.append(f"note: the time stamps in {name!r} go back {len(back)} times, first at sample {back[0]}: gaps")
    single = [at for at, gap in breaks if 0 < gap < _ONE_SAMPLE / rate]
    if single:
        notes.append(
            f"note: {len(single)} single samples are missing by the time stamps, first at {single[0]}: no gaps"
        )
    breaks = [(at, max(gap, 0.0)) for at, gap in breaks if at not in single]
    if stated is None:
        whole = round(rate)
        taken = float(whole) if abs(rate / max(whole, 1) - 1) < WHOLE_RATE_TOLERANCE else float(rate)
        notes.insert(0, f"rate: {rate:.6g} Hz by the time stamps in {name!r}, taken as {taken:g} Hz")
        return Clock(taken, breaks, notes)
    difference = rate / stated - 1
    if abs(difference) > REFUSED_DIFFERENCE:
        raise ValueError(
            f"The rate is {stated:g} Hz by {said_by}, but {rate:.6g} Hz by the time stamps in {name!r}. If the stamps "
            f"are right, give sampling_rate={_readable(rate)}; if {said_by} is right, {otherwise}."
        )
    if abs(difference) > NOTED_DIFFERENCE:
        notes.insert(
            0,
            f"note: {stated:g} Hz by {said_by}, {rate:.6g} Hz by the time stamps in {name!r}; {stated:g} Hz is taken. "
            + ("Some samples may be missing" if difference < 0 else "Some samples may be there twice"),
        )
    return Clock(float(stated), breaks, notes)


def _readable(rate: float) -> str:
    return f"{round(rate):g}" if abs(rate / max(round(rate), 1) - 1) < 0.01 else f"{rate:.6g}"


def _rate_without(seconds: np.ndarray, breaks: list[tuple[int, float]], rate: float) -> float:
    """Samples per second by a line through the earliest stamp of each second, once missing time is taken out."""
    missing = np.zeros(len(seconds))
    for at, gap in breaks:
        missing[at] = gap
    late = seconds - np.cumsum(missing) - np.arange(len(seconds)) / rate
    second = max(2, round(rate))
    earliest = [k + int(late[k : k + second].argmin()) for k in range(0, len(late) - second + 1, second)]
    if len(earliest) < _LEAST_SECONDS:
        return float(1 / (1 / rate + np.polyfit(np.arange(len(late)), late, 1)[0]))
    earliest = earliest[:: 1 + len(earliest) // 1000]
    return float(1 / (1 / rate + theilslopes(late[earliest], earliest).slope))


def _jumps(seconds: np.ndarray, rate: float) -> list[tuple[int, float]]:
    """Samples before which the clock jumps for good, with the missing seconds; negative where it goes back."""
    late = seconds - np.arange(len(seconds)) / rate
    second = max(2, round(rate))
    blocks = [late[k : k + second] for k in range(0, max(1, len(late) - second + 1), second)]
    # blocks with a gap are the minority, or nearly: the quieter ones tell what is usual
    lateness = _quiet([np.quantile(block, 0.99) - block.min() for block in blocks])
    jitter = _quiet(np.abs(np.diff([block.min() for block in blocks])))
    least = max(_LEAST_MISSING / rate, _ABOVE_JITTER * jitter, _OF_LATENESS * lateness)
    steps, breaks = np.diff(seconds) - 1 / rate, []
    candidates = np.flatnonzero(np.abs(steps) > least) + 1
    for at in candidates[np.argsort(-np.abs(steps[candidates - 1]), kind="stable")].tolist():
        # samples that were held up arrive in a bunch: after a pause of s seconds, the bunch lasts s seconds
        step = steps[at - 1]
        reach = second + round(abs(step) * rate)
        back = reach if step > 0 else _LOOK_BACK * second  # the end of a bunch is not a clock that is set back
        before, after = late[max(0, at - back) : at], late[at : at + reach]
        jump = float(after.min() - before.min())
        # the earliest of a few stamps may be late
        enough = least + 3 * lateness * (min(len(before), len(after)) < second)
        if jump * step < 0 or abs(jump) <= (enough if jump > 0 else max(enough, lateness)):
            continue
        if abs(jump) > abs(step) + enough + 2 * lateness:  # another jump within reach, or the end of a bunch
            if abs(step) < 5 * enough:
                continue
            jump = float(step)
        breaks.append((at, jump))
        late[at:] -= jump
    return sorted(breaks)


def _quiet(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.25, method="lower")) if len(values) else 0.0


def breaks_by_counter(counter: np.ndarray, rate: float) -> tuple[list[tuple[int, float]], list[str]]:
    """
    Where packets are missing, by a number that grows from packet to packet and may begin again (0 to 255, 0 to 127).

    Args:
        counter: whole numbers `[T]`; several samples in a row may have the same.
        rate: in hertz.

    Returns:
        Breaks as in [`Clock`], with the least time that fits the numbers, and notes; no breaks where the numbers do
        not count evenly.
    """
    steps = np.diff(counter)
    if not np.isfinite(counter).all() or (counter % 1 != 0).any() or not len(steps) or not steps.any():
        return [], []
    values, counts = np.unique(steps[steps != 0], return_counts=True)
    step = int(values[counts.argmax()])
    span = _span(counter, steps, step)
    packets = steps % span if span else steps
    if step < 1 or (~np.isin(packets, (0, step))).sum() > 0.2 * len(steps):
        return [], ["note: the numbers of the packets do not count evenly; gaps are not looked for in them"]
    per_packet = max(1, round(len(steps) / max(1, np.isin(packets, (step,)).sum())))
    breaks, restarts, single = [], 0, 0
    for at in np.flatnonzero(~np.isin(packets, (0, step))).tolist():
        lost = (packets[at] / step - 1) * per_packet
        restarts += lost < 0
        single += 0 < lost < _ONE_SAMPLE
        if not 0 < lost < _ONE_SAMPLE:
            breaks.append((at + 1, max(0.0, float(lost / rate))))
    notes = [f"note: the numbers of the packets begin again {restarts} times, taken as gaps"] if restarts else []
    if single:
        notes.append(f"note: {single} single samples are missing by the numbers of the packets: no gaps")
    return breaks, notes


def _span(counter: np.ndarray, steps: np.ndarray, step: int) -> int:
    """After how many numbers the counter begins again; 0 if it does not."""
    drops = np.flatnonzero(steps < 0)
    span = int(counter.max() - counter.min()) + step
    at_the_end = counter[drops] == counter.max()
    usual = span & (span - 1) == 0 or span in (100, 101, 129, 200, 201)
    return span if len(drops) and (usual or (at_the_end.sum() > 2 and at_the_end.mean() > 0.5)) else 0


def joined_breaks(by_stamps: list[tuple[int, float]], by_counter: list[tuple[int, float]], rate: float) -> list:
    """
    Breaks of both kinds without counting one twice: where both see one within a second, the counter says the sample,
    and the stamps, which do not begin again, say how long.
    """
    found = dict(by_counter)
    for at, missing in by_stamps:
        near = [other for other, _ in by_counter if abs(other - at) <= rate]
        where = min(near, key=lambda other: abs(other - at)) if near else at
        found[where] = max(found.get(where, 0.0), missing)
    return sorted(found.items())


def clock_at(sample: int, rate: float, breaks: list[tuple[int, float]]) -> float:
    """Seconds of a sample by the clock, missing time included."""
    return sample / rate + sum(missing for at, missing in breaks if at <= sample)


__all__ = ["Clock", "breaks_by_counter", "clock_at", "clock_of_stamps", "joined_breaks", "read_stamps"]
