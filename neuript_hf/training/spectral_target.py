"""
A channel's spectrum in a few numbers: an optional second target of pre-training.

A model fills gaps from amplitude and drift, which say little about what people do. Oscillations show in the power of
narrow bands, most of which is the aperiodic part that every EEG has, a slope. So the target is that slope, and the
power of each band above it.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from scipy.signal import welch
from scipy.signal.windows import hann


# Hertz; the signals end at 30 Hz.
BAND_EDGES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0)
NUM_SPECTRAL_TARGETS = len(BAND_EDGES) - 1 + 2
SEGMENT_SECONDS = 2.0
# Two segments: the power of a single one has a standard deviation as large as its mean, and cannot be predicted.
SHORTEST_SECONDS = 3.0
# Square microvolts per hertz, added to every band so that the logarithm of a flat channel is finite.
FLOOR = 1e-4


def spectral_target(microvolts: np.ndarray, sampling_rate: float) -> np.ndarray:
    """
    For each channel the offset and the slope of a straight line through log power over log frequency, then the
    distance of each band's log power from that line.

    Power is estimated by Welch's method, from segments of two seconds that overlap by half, each without its mean.

    Args:
        microvolts: `[C, T]`, real samples only, of at least three seconds, so that there are segments to average.
        sampling_rate: in hertz, above 60.

    Returns:
        float32 `[C, 13]`: offset and slope (natural logarithm of square microvolts per hertz, at the mean log
        frequency of the bands), and 11 distances.

    Raises:
        ValueError: for signals of less than three seconds, or a sampling rate too low for the highest band.
    """
    if sampling_rate < 2 * BAND_EDGES[-1]:
        raise ValueError(
            f"Bands up to {BAND_EDGES[-1]:g} Hz need a sampling rate of twice that, but it is {sampling_rate:g} Hz."
        )
    seconds = microvolts.shape[-1] / sampling_rate
    if seconds < SHORTEST_SECONDS:
        raise ValueError(f"A spectral target needs at least {SHORTEST_SECONDS:g} s, but the signal has {seconds:g} s.")
    segment = round(SEGMENT_SECONDS * sampling_rate)
    _, power = welch(microvolts, fs=sampling_rate, window=hann(segment), nperseg=segment)
    bands, to_line = _bands_and_line(sampling_rate)
    log_power = np.log(power @ bands + FLOOR)
    return (log_power @ to_line).astype(np.float32)


def has_target(microvolts: np.ndarray, sampling_rate: float) -> bool:
    """Whether `[C, T]` has any channels, and enough samples for [`spectral_target`]."""
    return len(microvolts) > 0 and microvolts.shape[-1] >= SHORTEST_SECONDS * sampling_rate


@lru_cache
def _bands_and_line(sampling_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Two matrices: from the power at each frequency to the mean power of each band, and from the log power of the bands
    to the line's offset and slope and the bands' distances from the line.
    """
    frequencies = np.fft.rfftfreq(round(SEGMENT_SECONDS * sampling_rate), 1 / sampling_rate)
    low, high = np.array(BAND_EDGES[:-1]), np.array(BAND_EDGES[1:])
    inside = (frequencies[:, None] >= low) & (frequencies[:, None] < high)
    log_frequency = np.log(np.sqrt(low * high))
    design = np.stack([np.ones_like(log_frequency), log_frequency - log_frequency.mean()], axis=1)
    line = np.linalg.pinv(design)  # [2, bands]
    residual = np.eye(len(low)) - design @ line
    return inside / inside.sum(axis=0), np.concatenate([line, residual]).T


def spectral_statistics(windows: Iterable[np.ndarray], sampling_rate: float) -> tuple[list[float], list[float]]:
    """
    Mean and standard deviation of each of the 13 targets over the channels of many windows, for
    `NeurIPTConfig(spectral_mean=, spectral_scale=)`.

    Args:
        windows: microvolts, `[C, T]` each, good channels and real samples only. Windows that are too short for a
            target are ignored.
        sampling_rate: in hertz.

    Raises:
        ValueError: if there are fewer than two channels in all, or a target is the same in all of them.
    """
    targets = [spectral_target(window, sampling_rate) for window in windows if has_target(window, sampling_rate)]
    targets = np.concatenate(targets).astype(np.float64) if targets else np.zeros((0, NUM_SPECTRAL_TARGETS))
    if len(targets) < 2 or not (std := targets.std(axis=0)).all():
        raise ValueError(
            f"Spectral statistics need different channels in windows of {SHORTEST_SECONDS:g} s or more, but the "
            f"windows have {len(targets)} channels, or equal ones. Give windows of several recordings."
        )
    return targets.mean(axis=0).tolist(), std.tolist()


__all__ = ["BAND_EDGES", "NUM_SPECTRAL_TARGETS", "has_target", "spectral_statistics", "spectral_target"]
