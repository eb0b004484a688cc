"""
What an answer loses without a channel, a stretch of time or a frequency band.

A channel is taken away as a bad channel is: the model does not see it. A stretch of time becomes a straight line in
every channel, from the sample before it to the sample after it, so that there is no step; at the ends of a window the
nearest sample goes on. A band is taken out of the microvolts: the window is continued by its point reflection on both
sides (the padding of MNE's filters), and a Fourier transform loses the band, with edges as soft as the window
resolves. What is left is companded again.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor
from transformers.utils.logging import tqdm

from ..evaluation.baselines import BANDS
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTForSequenceClassification
from .windows import (
    Group,
    about_windows,
    evaluating,
    grouped,
    in_order,
    logits_of,
    refuse_unfit,
    rows_of,
    target_names,
    target_scores,
    wanted_targets,
)


KINDS = ("channel", "time", "band")
# A band is at least this many steps of the window's spectrum wide, so that one step of it is wholly removed.
NARROWEST_STEPS = 2


def occlusion(
    model: NeurIPTForSequenceClassification,
    windows: Dataset,
    extractor: NeurIPTFeatureExtractor,
    *,
    kinds: Sequence[str] = KINDS,
    bands: Sequence[tuple[float, float]] = BANDS,
    step_seconds: float = 0.5,
    target: str | None = None,
    reports: Mapping[str, dict] | None = None,
    batch_size: int = 32,
) -> pd.DataFrame:
    """
    What the score of each window's target loses without each channel, stretch of time and frequency band.

    The score is the logarithm of the target's probability. It is lost to the base e: 0.69 = the probability halves; a
    negative value = the model is surer without the part. For numbers to predict, the value is by how much the answer
    falls, in the unit of the labels.

    Args:
        model: a trained classifier.
        windows: of [`load_recordings`] or [`windows_of`].
        extractor: made the windows.
        kinds: of `"channel"`, `"time"`, `"band"`.
        bands: low and high edge of each, in hertz; at least two steps of the window's spectrum wide (0.5 Hz of 4 s).
        step_seconds: length of the stretches of time; the last one of a window may be shorter.
        target: `None` = the labels of the windows, or what the model says where they have none; `"predicted"` = what
            the model says in any case.
        reports: channel reports of recordings whose first window is not among these, of [`channel_reports`].
        batch_size: windows that go through the model together.

    Returns:
        A table with a row for each window, target and part: `person`, `recording`, `onset` (seconds), `target`,
        `kind`, `what` (`"C3"`, `"0.5-1 s"`, `"8-10 Hz"`), `start`, `stop` (seconds from the window's start, or
        hertz), `value`. Channels that are masked as bad have no row.

    Raises:
        ValueError: for an untrained head, windows that the model does not expect, unknown kinds, bands that the
            windows cannot resolve or do not have, a step below one sample, and windows with a single good channel.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"kinds must be of {', '.join(KINDS)}, but are {unknown}.")
    refuse_unfit(model, windows, extractor, target)
    rate = extractor.sampling_rate
    if round(step_seconds * rate) < 1:
        raise ValueError(f"step_seconds must be a sample ({1 / rate:g} s) or more, but is {step_seconds}.")
    groups = grouped(model.config, windows, reports)
    for group in groups:
        if "band" in kinds:
            check_bands(bands, group.batch["input_values"].shape[-1] / rate, rate)
        if "channel" in kinds and len(group.good) < 2:
            raise ValueError(
                f"Window {group.rows[0]} has a single good channel, {group.names[group.good[0]]}, and nothing is left "
                "without it. Leave the kind 'channel' out, or these windows."
            )
    about = about_windows(windows)
    parts = []
    with evaluating(model):
        for group in tqdm(groups, desc="occlusion", disable=len(groups) < 2, leave=False):
            whole = logits_of(model, [group.batch], batch_size)[0]
            wanted = wanted_targets(model, windows.select(group.rows), target, whole)
            scores = target_scores(model.config, whole, wanted)
            names = target_names(model.config, wanted)
            for kind in kinds:
                cut, variants = _parts_and_variants(kind, group, extractor, bands, step_seconds)
                without = target_scores(model.config, logits_of(model, variants, batch_size), wanted)
                parts.append(rows_of(about.iloc[group.rows], names, kind, cut, (scores - without).numpy()))
    return in_order(parts)


def _parts_and_variants(
    kind: str,
    group: Group,
    extractor: NeurIPTFeatureExtractor,
    bands: Sequence[tuple[float, float]],
    step_seconds: float,
) -> tuple[list[tuple[str, float, float]], Iterator[dict[str, Tensor]]]:
    """The parts of a kind, each with its name, start and stop, and the windows without each of them."""
    signal, rate = group.batch["input_values"], extractor.sampling_rate
    if kind == "channel":
        named = [(group.names[channel], np.nan, np.nan) for channel in group.good]
        return named, (group.without_channel(channel) for channel in group.good)
    if kind == "time":
        cuts = stretches(signal.shape[-1], rate, step_seconds)
        named = [(f"{a / rate:g}-{b / rate:g} s", a / rate, b / rate) for a, b in cuts]
        return named, (group.with_signal(without_time(signal, start, stop)) for start, stop in cuts)
    microvolts = extractor.invert(signal.double().numpy())
    without = (extractor.compress(without_band(microvolts, rate, low, high)) for low, high in bands)
    named = [(f"{low:g}-{high:g} Hz", low, high) for low, high in bands]
    return named, (group.with_signal(torch.from_numpy(values).to(signal.dtype)) for values in without)


def stretches(length: int, sampling_rate: float, step_seconds: float) -> list[tuple[int, int]]:
    """First sample of each stretch of a window, and the one after its last."""
    step = round(step_seconds * sampling_rate)
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def without_time(signal: Tensor, start: int, stop: int) -> Tensor:
    """
    The signal `[..., T]` with a straight line in the samples from `start` up to `stop`, between the samples beside
    them; at an end of the window the one sample beside them goes on.
    """
    length = signal.shape[-1]
    if stop - start >= length:
        return torch.zeros_like(signal)
    before, after = signal[..., max(start - 1, 0), None], signal[..., min(stop, length - 1), None]
    before, after = (after if start == 0 else before), (before if stop == length else after)
    share = torch.arange(1, stop - start + 1, dtype=signal.dtype, device=signal.device) / (stop - start + 1)
    return torch.cat([signal[..., :start], before + (after - before) * share, signal[..., stop:]], dim=-1)


def without_band(microvolts: np.ndarray, sampling_rate: float, low: float, high: float) -> np.ndarray:
    """
    The signal `[..., T]` without the frequencies from `low` to `high` hertz. The edges are soft over one step of the
    window's spectrum, so the parts that neighbouring bands remove add up.
    """
    beyond = microvolts.shape[-1] - 1
    widths = [(0, 0)] * (microvolts.ndim - 1) + [(beyond, beyond)]
    longer = np.pad(microvolts, widths, mode="reflect", reflect_type="odd")
    frequencies = np.fft.rfftfreq(longer.shape[-1], 1 / sampling_rate)
    edge = sampling_rate / microvolts.shape[-1]

    def rise(distance: np.ndarray) -> np.ndarray:
        return 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / edge + 0.5, 0, 1))

    removed = np.fft.rfft(longer) * (rise(frequencies - low) * rise(high - frequencies))
    return microvolts - np.fft.irfft(removed, longer.shape[-1])[..., beyond : beyond + microvolts.shape[-1]]


def check_bands(bands: Sequence[tuple[float, float]], seconds: float, sampling_rate: float) -> None:
    """
    Raises:
        ValueError: for bands that windows of this length cannot resolve, or that they do not have.
    """
    narrowest = NARROWEST_STEPS / seconds
    for band in bands:
        if len(band) != 2 or not 0 <= band[0] < band[1] <= sampling_rate / 2:
            raise ValueError(
                f"A band is (low, high) in hertz with 0 <= low < high <= {sampling_rate / 2:g}, but one is {band}."
            )
        low, high = band
        if high - low < narrowest - 1e-9:
            raise ValueError(
                f"The band {low:g} to {high:g} Hz is {high - low:g} Hz wide, but windows of {seconds:g} s resolve "
                f"{narrowest:g} Hz at best. Take a wider band or longer windows."
            )


__all__ = ["KINDS", "check_bands", "occlusion", "stretches", "without_band", "without_time"]
