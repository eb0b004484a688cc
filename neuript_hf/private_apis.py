"""
Private functions and attributes of other libraries that we rely on, each behind a function that says what it replaces
and why. `tests/test_private_apis.py` fails when a new version of a library changes one of them.
"""

from pathlib import Path
from typing import Any

import numpy as np


def is_raw_edf(raw: Any) -> bool:
    """Replaces `isinstance` with `RawEDF` and `RawBDF`: MNE exports neither class."""
    return type(raw).__name__ in ("RawEDF", "RawBDF")


def is_raw_eeglab(raw: Any) -> bool:
    """Replaces `isinstance` with `RawEEGLAB`, which MNE does not export."""
    return type(raw).__name__ == "RawEEGLAB"


def signal_numbers(raw: Any) -> list[int]:
    """Which of an EDF, BDF or GDF file's signals a Raw holds. No public attribute says so, and names may repeat."""
    return list(raw._raw_extras[0]["sel"])


def unit_factors(raw: Any) -> np.ndarray:
    """
    What MNE multiplied each channel of an EDF, BDF or GDF file by to get volts. It takes spellings of units that it
    does not know for volts without saying so; only this number shows what it did.
    """
    return np.asarray(raw._raw_extras[0]["units"])


def samples_per_record(raw: Any) -> int:
    """Samples of one record of an EDF or BDF file at the Raw's rate: no public attribute says how MNE stretched it."""
    return int(raw._raw_extras[0]["max_samp"])


def raw_parts(raw: Any) -> list[tuple[Path | None, int, int]]:
    """
    File, first sample and number of samples of each recording that was joined to a Raw: no public attribute says where
    one ends and the next begins.
    """
    parts = zip(raw.filenames, raw._first_samps, raw._raw_lengths, strict=True)
    return [(path and Path(path), int(first), int(samples)) for path, first, samples in parts]


def raw_of_epochs(epochs: Any) -> Any:
    """
    The Raw from which epochs are still to be read; something else once they are, or if they come from a file: no
    public attribute leads to it.
    """
    return epochs._raw


__all__ = [
    "is_raw_edf",
    "is_raw_eeglab",
    "raw_of_epochs",
    "raw_parts",
    "samples_per_record",
    "signal_numbers",
    "unit_factors",
]
