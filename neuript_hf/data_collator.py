"""Windows -> batches: mixed montages and lengths are padded; for pre-training, samples are hidden."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .feature_extraction_neuript import NeurIPTFeatureExtractor
from .masking import HIDDEN_SHARE, REPLACED_SHARE, hide_and_replace, select_by_amplitude, select_random_spans
from .spectral_target import NUM_SPECTRAL_TARGETS, has_target, spectral_target


# The batch contract: which axes of an entry are channels (C) and samples (T), behind the window's own.
AXES = {
    "input_values": "CT",
    "electrode_positions": "C.",
    "lobe_mask": "C.",
    "channel_mask": "C",
    "attention_mask": "T",
    "masked_positions": "CT",
    "hidden_positions": "CT",
    "spectral_targets": "C.",
}
FLOATS = ("input_values", "electrode_positions", "spectral_targets")


class DataCollatorForEEG:
    """
    Pads windows of different montages and lengths on the right to one batch.

    An example is a mapping with `input_values [C, T]`, `electrode_positions [C, 3]` and `lobe_mask [C, num_lobes]`,
    and may hold `channel_mask [C]`, `attention_mask [T]` and `labels` (a class, or `[C, T]` true values). Other
    entries (subject, onset, ...) are left out of the batch. `channel_mask` and `attention_mask` stand in the batch
    only where something is masked or padded, since attention without a mask is faster.

    Raises:
        ValueError: where an entry lacks, has another shape than its window, or differs in its number of lobes.
    """

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        windows = [_as_arrays(example) for example in examples]
        channels, samples = np.max([window["input_values"].shape for window in windows], axis=0)
        batch = {}
        for name in windows[0]:
            lacking = [index for index, window in enumerate(windows) if name not in window]
            if lacking:
                raise ValueError(f"The examples {lacking} of the batch have no {name!r}, but others have.")
            if name == "labels":
                axes = "CT" if windows[0][name].ndim else ""
            else:
                axes = AXES[name]
            arrays = []
            for window in windows:
                sizes = dict(zip("CT", window["input_values"].shape, strict=True))
                target = {"C": channels, "T": samples}
                widths = [(0, target[axis] - sizes[axis] if axis in target else 0) for axis in axes]
                arrays.append(np.pad(window[name], widths) if axes else window[name])
            if len({array.shape for array in arrays}) > 1:
                shapes = sorted({array.shape[-1] for array in arrays})
                raise ValueError(
                    f"{name} has {shapes} columns within one batch. Make all windows with extractors of one num_lobes."
                )
            batch[name] = torch.from_numpy(np.stack(arrays))
        return {name: tensor for name, tensor in batch.items() if name not in MASKS or not tensor.all()}


MASKS = ("channel_mask", "attention_mask")


def _as_arrays(example: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The contract's entries of one window as arrays of the contract's types, with both masks; shapes checked."""
    for name in ("input_values", "electrode_positions", "lobe_mask"):
        if example.get(name) is None:
            raise ValueError(
                f"A window needs {name!r}, but has {sorted(example)}. Make windows with the feature extractor."
            )
    window = {}
    for name in AXES:
        if example.get(name) is not None:
            window[name] = np.asarray(example[name], dtype=np.float32 if name in FLOATS else bool)
    if window["input_values"].ndim != 2:
        raise ValueError(f"input_values of one window must be [C, T], but has shape {window['input_values'].shape}.")
    channels, samples = window["input_values"].shape
    window.setdefault("channel_mask", np.ones(channels, dtype=bool))
    window.setdefault("attention_mask", np.ones(samples, dtype=bool))
    sizes = {"C": channels, "T": samples}
    for name, array in window.items():
        axes = AXES[name]
        if array.ndim != len(axes) or any(
            sizes.get(a, size) != size for a, size in zip(axes, array.shape, strict=True)
        ):
            raise ValueError(
                f"{name} has shape {array.shape} beside input_values of {channels} channels, {samples} samples."
            )
    if example.get("labels") is not None:
        labels = np.asarray(example["labels"])
        window["labels"] = labels.astype(np.float32) if labels.ndim else labels.astype(np.int64)
    return window


class DataCollatorForAmplitudeAwareMasking:
    """
    Batches for pre-training (spec section 7): hides samples, keeps the true values as `labels`.

    Adds to the batch of [`DataCollatorForEEG`] `masked_positions` (selected, where the loss looks), `hidden_positions`
    (those that the model must not see) and `labels` (true values), all `[B, C, T]`. Padding and bad channels are never
    selected.

    The masks of a window follow from the seed, the epoch and the window's content alone, so that they do not depend on
    the batch it stands in, the order of the data, or the process that makes it.

    Args:
        strategy: `"amplitude"` (neighbouring ranks of amplitude) or `"random"` (spans in time, for comparison).
        ratios: shares of the samples to select; one is drawn for each window. A number is a fixed share.
        seed: of all masks.
        whole_share: share of the windows that are left whole, with nothing selected: the model then learns what a
            window is like, as it will see it after pre-training. The paper has none.
        span_share: share of the windows that have something selected which get spans in time instead. A model that has
            only seen gaps of one band of amplitudes takes every gap for one. The paper has none.
        replaced_share: share of the selected samples that get another sample's value, which the model takes for true.
            With 0 they are left alone, for a model that builds upon visible samples (`hidden_fill`).
        spectral_extractor: the windows' feature extractor; with it each window has its `spectral_targets [C, 13]`
            ([`spectral_target`]), computed from its microvolts before anything is hidden; NaN, which the loss leaves
            out, for bad channels and in windows of less than three seconds.

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
        # in shared memory, so that workers that outlive an epoch hear of the next one
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
        return self.pad([self._masked(_as_arrays(example)) for example in examples])

    def _masked(self, window: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One window with masks; only its good channels and real samples take part."""
        values = window["input_values"]
        generator = self._generator(values)
        good = np.ix_(window["channel_mask"], window["attention_mask"])
        signal = values[good]
        selected = np.zeros(values.shape, dtype=bool)
        hidden = np.zeros(values.shape, dtype=bool)
        replaced = values.copy()
        if self.spectral_extractor is not None:
            window = window | {"spectral_targets": self._spectral_targets(signal, window["channel_mask"])}
        # a draw that decides is made only where there is something to decide: without it masks are what they were
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
        """`[C, 13]`, NaN for bad channels and in short windows; `signal` are the good channels."""
        targets = np.full((len(channel_mask), NUM_SPECTRAL_TARGETS), np.nan, dtype=np.float32)
        if has_target(signal, rate := self.spectral_extractor.sampling_rate):
            targets[channel_mask] = spectral_target(self.spectral_extractor.invert(signal), rate)
        return targets

    def _generator(self, values: np.ndarray) -> np.random.Generator:
        digest = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch, int.from_bytes(digest, "little")]))


__all__ = ["DataCollatorForAmplitudeAwareMasking", "DataCollatorForEEG"]
