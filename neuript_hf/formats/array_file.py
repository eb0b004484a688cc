"""What a file of plain numbers says: the signal, and the names, the rate, the unit, the gaps as far as it has them."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class ArrayFile:
    """
    Args:
        values: `[C, T]`, or `[n, C, T]` for pieces.
        names, sampling_rate, unit: `None` if the file does not have them.
        unit_of: units of single channels, if they differ or are part of their names.
        breaks: samples before which time is missing, in order, with the missing seconds (0 = nobody knows how many).
        events: (onset in seconds by the clock, duration, text).
        left_out: columns or channels that are not signal, with the reason.
        notes: for the report.
        names_given: whether `names` are the user's.
    """

    values: np.ndarray
    names: list[str] | None = None
    sampling_rate: float | None = None
    unit: str | None = None
    unit_of: list[str | None] = field(default_factory=list)
    breaks: list[tuple[int, float]] = field(default_factory=list)
    events: list[tuple[float, float, str]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    names_given: bool = False


__all__ = ["ArrayFile"]
