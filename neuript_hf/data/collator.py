"""Windows -> batches: mixed montages and lengths are padded on the right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


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

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        windows = [as_arrays(example) for example in examples]
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


def as_arrays(example: Mapping[str, Any]) -> dict[str, np.ndarray]:
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


def real_samples(batch: Mapping[str, Tensor]) -> Tensor:
    """
    Real samples of good channels, bool `[B, C, T]`: `channel_mask` and `attention_mask`, where the batch has them.
    `visible`, which all fillers ask for, is these without `hidden_positions`.
    """
    real = torch.ones_like(batch["input_values"], dtype=torch.bool)
    if "channel_mask" in batch:
        real = real & batch["channel_mask"][..., None]
    if "attention_mask" in batch:
        real = real & batch["attention_mask"][:, None]
    return real


__all__ = ["DataCollatorForEEG", "as_arrays", "real_samples"]
