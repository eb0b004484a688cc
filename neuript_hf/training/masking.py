"""
Amplitude-aware masking (paper 2.1): which samples pre-training hides, and the collator that hides them.

A strategy is a pure function of signal, ratio and random generator; to add one, write the function and list it in
`DataCollatorForAmplitudeAwareMasking.STRATEGIES`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..data.collator import DataCollatorForEEG, as_arrays
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from .spectral_target import NUM_SPECTRAL_TARGETS, has_target, spectral_target


# Length of a span in the comparison strategy: 0.25 s at 64 Hz.
SPAN_SAMPLES = 16
# Shares of the selected samples that are hidden and that get another sample's value; the rest is left alone.
HIDDEN_SHARE, REPLACED_SHARE = 0.8, 0.1


def select_by_amplitude(signal: np.ndarray, ratio: float, generator: np.random.Generator) -> np.ndarray:
    """
    Amplitude-aware selection (paper 2.1): in each channel separately, `n = round(ratio T)` samples of adjacent
    amplitude ranks, around a quantile that is drawn uniformly.

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
    The strategy to compare with: spans of 16 samples at random starts in each channel, until exactly
    `n = round(ratio T)` samples are selected; the last span is cut short. Spans may overlap, and may begin before the
    window, so that its ends are as likely as its middle. Arguments and result as in [`select_by_amplitude`].
    """
    channels, samples = signal.shape
    count = round(ratio * samples)
    selected = np.zeros(signal.shape, dtype=bool)
    for channel in selected:
        while (missing := count - channel.sum()) > 0:
            start = generator.integers(1 - SPAN_SAMPLES, samples)
            span = np.arange(max(start, 0), min(start + SPAN_SAMPLES, samples))
            channel[span[~channel[span]][:missing]] = True
    return selected


def hide_and_replace(
    signal: np.ndarray, selected: np.ndarray, generator: np.random.Generator, replaced_share: float = REPLACED_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """
    Of the n selected samples of each channel, `round(0.8 n)` are hidden, `round(0.1 n)` get the value of another
    sample of the same window, and the rest stays; which is which is drawn uniformly (paper C.2).

    Args:
        signal: real samples only, `[C, T]`.
        selected: bool `[C, T]`, the same number in each channel.
        generator: source of randomness.
        replaced_share: the share of the selected samples that gets another sample's value.

    Returns:
        the signal with replaced values, and bool `[C, T]`, the hidden samples (whose values the model sets to zero).
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
    # Another sample of the window: 1 to C T - 1 steps on from the sample's own place, modulo C T.
    own = rows * samples + targets
    steps = generator.integers(1, channels * samples, targets.shape) if signal.size > 1 else np.zeros_like(targets)
    replaced = signal.copy()
    replaced[rows, targets] = signal.ravel()[(own + steps) % signal.size]
    return replaced, hidden


class DataCollatorForAmplitudeAwareMasking:
    """
    Batches for pre-training (docs/model.md section 7): hides samples, and keeps the true values as `labels`.

    Adds to the batch of [`DataCollatorForEEG`] `masked_positions` (selected; the loss is taken here),
    `hidden_positions` (those of them that the model must not see) and `labels` (true values), all `[B, C, T]`. Padding
    and bad channels are never selected.

    A window's masks depend on the seed, the epoch and the window's content alone, not on its batch, the order of the
    data or the process that makes them.

    Args:
        strategy: `"amplitude"` (neighbouring ranks of amplitude) or `"random"` (spans in time, for comparison).
        ratios: shares of the samples to select; one of them is drawn for each window. A number is a fixed share.
        seed: seed of all masks.
        whole_share: share of the windows in which nothing is selected, so that the model also sees whole windows, as
            it will after pre-training. 0 in the paper.
        span_share: share of the other windows that get spans in time instead of the strategy. A model that has only
            seen gaps within one band of amplitudes expects that of every gap. 0 in the paper.
        replaced_share: share of the selected samples that get another sample's value, which the model cannot
            distinguish from true ones. Give 0 for a model that relies on visible samples (`hidden_fill`).
        spectral_extractor: the windows' feature extractor. If given, each window has `spectral_targets [C, 13]`
            ([`spectral_target`]), computed before anything is hidden. They are NaN, which the loss ignores, for bad
            channels and in windows of less than three seconds.

    Raises:
        ValueError: for an unknown strategy, a ratio outside (0, 1] or a share outside [0, 1].
    """

    STRATEGIES = {"amplitude": select_by_amplitude, "random": select_random_spans}

    def __init__(
        self,
        strategy: str = "amplitude",
        ratios: float | Sequence[float] = (0.20, 0.35, 0.50),
        seed: int = 0,
        whole_share: float = 0.0,
        span_share: float = 0.0,
        replaced_share: float = REPLACED_SHARE,
        spectral_extractor: NeurIPTFeatureExtractor | None = None,
    ):
        if strategy not in self.STRATEGIES:
            raise ValueError(f"strategy must be one of {sorted(self.STRATEGIES)}, but is {strategy!r}.")
        self.ratios = [float(ratios)] if isinstance(ratios, int | float) else [float(ratio) for ratio in ratios]
        if not self.ratios or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise ValueError(f"ratios must lie in (0, 1], but are {self.ratios}.")
        for name, share, most in (
            ("whole_share", whole_share, 1),
            ("span_share", span_share, 1),
            ("replaced_share", replaced_share, round(1 - HIDDEN_SHARE, 2)),
        ):
            if not 0 <= share <= most:
                raise ValueError(f"{name} must lie in [0, {most}], but is {share}.")
        self.strategy = strategy
        self.seed = seed
        self.whole_share = whole_share
        self.span_share = span_share
        self.replaced_share = replaced_share
        self.spectral_extractor = spectral_extractor
        # in shared memory, so that persistent workers see when an epoch begins
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.pad = DataCollatorForEEG()

    @property
    def epoch(self) -> int:
        """The epoch that masks are drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Masks differ from epoch to epoch; [`NeurIPTTrainer`] calls this."""
        self._epoch.fill_(epoch)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return self.pad([self._masked(as_arrays(example)) for example in examples])

    def _masked(self, window: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One window with masks, made from its good channels and real samples only."""
        values = window["input_values"]
        generator = self._generator(values)
        good = np.ix_(window["channel_mask"], window["attention_mask"])
        signal = values[good]
        selected = np.zeros(values.shape, dtype=bool)
        hidden = np.zeros(values.shape, dtype=bool)
        replaced = values.copy()
        if self.spectral_extractor is not None:
            window = window | {"spectral_targets": self._spectral_targets(signal, window["channel_mask"])}
        # no draw for a share of 0, so that such masks stay the same as without these options
        if signal.size and not (self.whole_share and generator.random() < self.whole_share):
            spans = self.span_share and generator.random() < self.span_share
            ratio = self.ratios[generator.integers(len(self.ratios))]
            selected[good] = self.STRATEGIES["random" if spans else self.strategy](signal, ratio, generator)
            replaced[good], hidden[good] = hide_and_replace(signal, selected[good], generator, self.replaced_share)
        return window | {
            "input_values": replaced,
            "masked_positions": selected,
            "hidden_positions": hidden,
            "labels": values,
        }

    def _spectral_targets(self, signal: np.ndarray, channel_mask: np.ndarray) -> np.ndarray:
        """`[C, 13]`, NaN for bad channels and in short windows; `signal` has the good channels only."""
        targets = np.full((len(channel_mask), NUM_SPECTRAL_TARGETS), np.nan, dtype=np.float32)
        if has_target(signal, rate := self.spectral_extractor.sampling_rate):
            targets[channel_mask] = spectral_target(self.spectral_extractor.invert(signal), rate)
        return targets

    def _generator(self, values: np.ndarray) -> np.random.Generator:
        digest = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch, int.from_bytes(digest, "little")]))


__all__ = ["DataCollatorForAmplitudeAwareMasking", "hide_and_replace", "select_by_amplitude", "select_random_spans"]
