"""Which samples pre-training hides (spec section 7): pure functions of signal, ratio and random generator."""

import numpy as np


# Length of a span in the comparison strategy: 0.25 s at 64 Hz.
SPAN_SAMPLES = 16
# Of the selected samples, the shares that are hidden and that get another sample's value; the rest are left alone.
HIDDEN_SHARE, REPLACED_SHARE = 0.8, 0.1


def select_by_amplitude(signal: np.ndarray, ratio: float, generator: np.random.Generator) -> np.ndarray:
    """
    Amplitude-aware selection (paper 2.1): in each channel by itself, `n = round(ratio T)` samples of neighbouring
    amplitude rank, around a quantile that is drawn uniformly.

    Args:
        signal: real samples only, `[C, T]`, in any monotone scale.
        ratio: share of the samples, 0 to 1.
        generator: source of randomness.

    Returns:
        bool `[C, T]`, exactly n true values in each channel.
    """
    channels, samples = signal.shape
    count = round(ratio * samples)
    order = np.argsort(signal, axis=-1, kind="stable")
    quantiles = generator.random((channels, 1))
    first = np.clip(np.rint(quantiles * samples - count / 2), 0, samples - count).astype(int)
    ranks = first + np.arange(count)
    selected = np.zeros(signal.shape, dtype=bool)
    np.put_along_axis(selected, np.take_along_axis(order, ranks, axis=-1), True, axis=-1)
    return selected


def select_random_spans(signal: np.ndarray, ratio: float, generator: np.random.Generator) -> np.ndarray:
    """
    The comparison: spans of 16 samples at random starts in each channel until exactly `n = round(ratio T)` are
    selected; the last span is cut short. Spans may overlap and may begin before the window, so that its ends are as
    likely as its middle. Arguments and result as in [`select_by_amplitude`].
    """
    channels, samples = signal.shape
    count = round(ratio * samples)
    selected = np.zeros(signal.shape, dtype=bool)
    for channel in selected:
        while (lacking := count - channel.sum()) > 0:
            start = generator.integers(1 - SPAN_SAMPLES, samples)
            span = np.arange(max(start, 0), min(start + SPAN_SAMPLES, samples))
            channel[span[~channel[span]][:lacking]] = True
    return selected


def hide_and_replace(
    signal: np.ndarray, selected: np.ndarray, generator: np.random.Generator, replaced_share: float = REPLACED_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """
    Of the n selected samples of each channel, `round(0.8 n)` are hidden, `round(0.1 n)` get the value of another
    sample of the same window, the rest stay; which is which is drawn uniformly (paper C.2).

    Args:
        signal: real samples only, `[C, T]`.
        selected: bool `[C, T]`, the same number in each channel.
        generator: source of randomness.
        replaced_share: the share of the selected samples that gets another sample's value.

    Returns:
        the signal with replaced values, and bool `[C, T]` of the hidden samples (whose values the model zeroes).
    """
    channels, samples = signal.shape
    count = int(selected[0].sum())
    hidden_count = round(HIDDEN_SHARE * count)
    replaced_count = round(replaced_share * count)
    places = np.nonzero(selected)[1].reshape(channels, count)
    places = generator.permuted(places, axis=-1)
    hidden = np.zeros(signal.shape, dtype=bool)
    np.put_along_axis(hidden, places[:, :hidden_count], True, axis=-1)

    targets = places[:, hidden_count : hidden_count + replaced_count]
    rows = np.arange(channels)[:, None]
    # Another sample of the window: a step of 1 .. C T - 1 from the sample's own place, around the end.
    own = rows * samples + targets
    steps = generator.integers(1, channels * samples, targets.shape) if signal.size > 1 else np.zeros_like(targets)
    replaced = signal.copy()
    replaced[rows, targets] = signal.ravel()[(own + steps) % signal.size]
    return replaced, hidden


__all__ = ["hide_and_replace", "select_by_amplitude", "select_random_spans"]
