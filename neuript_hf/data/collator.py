"""Windows -> batches; different montages and lengths are padded on the right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


# The batch contract: which axes of an entry of one window are channels (C) and samples (T).
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
    Pads windows of different montages and lengths on the right, and stacks them into one batch.

    An example is a mapping with `input_values [C, T]`, `electrode_positions [C, 3]` and `lobe_mask [C, num_lobes]`; it
    may also hold `channel_mask [C]`, `attention_mask [T]` and `labels` (a class, or true values `[C, T]`). Other
    entries (subject, onset, ...) are left out of the batch. The batch has `channel_mask` and `attention_mask` only if
    they mask something, since attention without a mask is faster.

    Raises:
        ValueError: if an entry is missing, does not fit its window's shape, or the number of lobes differs.
    """

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        windows = [as_arrays(example) for example in examples]
        channels, samples = np.max([window["input_values"].shape for window in windows], axis=0)
        batch = {}
        for name in windows[0]:
            without = [index for index, window in enumerate(windows) if name not in window]
            if without:
                raise ValueError(f"The examples {without} of the batch have no {name!r}, but others do.")
            axes = AXES.get(name) or ("CT" if windows[0]["labels"].ndim else "")
            arrays = []
            for window in windows:
                sizes = dict(zip("CT", window["input_values"].shape, strict=True))
                target = {"C": channels, "T": samples}
                widths = [(0, target[axis] - sizes[axis] if axis in target else 0) for axis in axes]
                arrays.append(np.pad(window[name], widths) if axes else window[name])
            if len({array.shape for array in arrays}) > 1:
                shapes = sorted({array.shape[-1] for array in arrays})
                raise ValueError(
                    f"{name} has {shapes} columns within one batch. Make all windows with the same num_lobes."
                )
            batch[name] = torch.from_numpy(np.stack(arrays))
        return {name: tensor for name, tensor in batch.items() if name not in MASKS or not tensor.all()}


MASKS = ("channel_mask", "attention_mask")


def as_arrays(example: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The contract's entries of one window as arrays of the right types and shapes, both masks included."""
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
                f"{name} has shape {array.shape}, but input_values has {channels} channels and {samples} samples."
            )
    if example.get("labels") is not None:
        labels = np.asarray(example["labels"])
        window["labels"] = labels.astype(np.float32) if labels.ndim else labels.astype(np.int64)
    return window


def real_samples(batch: Mapping[str, Tensor]) -> Tensor:
    """
    Real samples of good channels, bool `[B, C, T]`, from `channel_mask` and `attention_mask` if the batch has them.
    The methods of `evaluation.imputation` take these without `hidden_positions` as `visible`.
    """
    real = torch.ones_like(batch["input_values"], dtype=torch.bool)
    if "channel_mask" in batch:
        real = real & batch["channel_mask"][..., None]
    if "attention_mask" in batch:
        real = real & batch["attention_mask"][:, None]
    return real


__all__ = ["DataCollatorForEEG", "as_arrays", "real_samples"]
