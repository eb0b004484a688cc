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
MASKS = ("channel_mask", "attention_mask")
LABEL_COLUMNS = ("labels", "label", "label_ids")  # the names that transformers knows


class DataCollatorForEEG:
    """
    Pads windows of different montages and lengths on the right, and stacks them into one batch.

    An example is a mapping with `input_values [C, T]`, `electrode_positions [C, 3]` and `lobe_mask [C, num_lobes]`; it
    may also hold `channel_mask [C]`, `attention_mask [T]` and `labels` (or `label` or `label_ids`, as in transformers;
    under these two names, texts without `label2id` are no labels). Other entries (subject, onset, ...) are left out of
    the batch. The batch has `channel_mask` and `attention_mask` only if they mask something, since attention without a
    mask is faster.

    | `labels` of a window | in the batch |
    |---|---|
    | an integer: its class | int64 `[B]` |
    | a real number to predict | float32 `[B]` |
    | a row of n numbers: 1 for each label that it has, else 0; or n numbers to predict | float32 `[B, n]` |
    | true values `[C, T]` of a signal | float32 `[B, C, T]`, padded |
    | a name of `label2id`: its class | int64 `[B]` |
    | a list of such names: the labels that it has | float32 `[B, n]`, of 0 and 1 |

    Args:
        label2id: numbers of classes or labels by name, `model.config.label2id`; only needed for names.

    Raises:
        ValueError: if an entry is missing, does not fit its window's shape or the other windows, or is not finite, a
            window has no good channel or no real sample, or a label's name is unknown.
    """

    def __init__(self, label2id: Mapping[str, int] | None = None):
        self.label2id = label2id

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        windows = [as_arrays(self._with_labels(example), self.label2id) for example in examples]
        channels, samples = np.max([window["input_values"].shape for window in windows], axis=0)
        batch = {}
        for name in windows[0]:
            without = [index for index, window in enumerate(windows) if name not in window]
            if without:
                raise ValueError(f"The examples {without} of the batch have no {name!r}, but others do.")
            axes = AXES.get(name, "")
            if name == "labels" and windows[0][name].ndim == 2:
                axes = "CT"
            arrays = []
            for window in windows:
                sizes = dict(zip("CT", window["input_values"].shape, strict=True))
                target = {"C": channels, "T": samples}
                widths = [(0, target[axis] - sizes[axis] if axis in target else 0) for axis in axes]
                arrays.append(np.pad(window[name], widths) if axes else window[name])
            if len(shapes := {array.shape for array in arrays}) > 1:
                if name == "labels":
                    raise ValueError(
                        f"The windows of one batch have labels of different shapes: {sorted(shapes)}. Give every "
                        "window one number, or every window a row of as many numbers as the model has labels."
                    )
                columns = sorted({shape[-1] for shape in shapes})
                raise ValueError(
                    f"{name} has {columns} columns within one batch. Make all windows with the same num_lobes."
                )
            stacked = np.stack(arrays)
            if name == "labels" and stacked.dtype != np.int64:  # of integers and real numbers numpy makes float64
                stacked = stacked.astype(np.float32)
            batch[name] = torch.from_numpy(stacked)
        return {name: tensor for name, tensor in batch.items() if name not in MASKS or not tensor.all()}

    def _with_labels(self, example: Mapping[str, Any]) -> Mapping[str, Any]:
        if example.get("labels") is None:
            for name in LABEL_COLUMNS[1:]:
                labels = example.get(name)
                if labels is not None and (self.label2id or np.asarray(labels).dtype.kind in "biuf"):
                    return {**example, "labels": labels}
        return example


def as_arrays(example: Mapping[str, Any], label2id: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """
    The contract's entries of one window as arrays of the right types and shapes, both masks included. The arguments
    and errors are those of [`DataCollatorForEEG`].
    """
    for name in ("input_values", "electrode_positions", "lobe_mask"):
        if example.get(name) is None:
            raise ValueError(
                f"A window needs {name!r}, but has {sorted(example)}. Make windows with the feature extractor. If the "
                "data set has it, Trainer removed it because forward of the model does not name it: set "
                "remove_unused_columns=False in TrainingArguments."
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
    for name in ("input_values", "electrode_positions"):
        if not np.isfinite(window[name]).all():
            raise ValueError(
                f"{name} of a window has values that are not finite, so its answer would be none. Make windows "
                "with the feature extractor, which leaves out such time and masks such channels."
            )
    for name in MASKS:
        if not window[name].any():
            raise ValueError(
                f"{name} of a window is all false: no good channel or no real sample is left. Leave the window out; "
                "the report of the feature extractor says why channels are bad."
            )
    if example.get("labels") is not None:
        window["labels"] = labels_as_array(example["labels"], label2id)
        if window["labels"].ndim > 1 and window["labels"].shape != (channels, samples):
            raise ValueError(
                f"labels of a window must be one number, a row of numbers, or values of the shape of input_values, "
                f"{(channels, samples)}, but have shape {window['labels'].shape}."
            )
    return window


def labels_as_array(labels: Any, label2id: Mapping[str, int] | None = None) -> np.ndarray:
    """
    Labels of one window as an array: int64 for a class, else float32. Arguments and errors are those of
    [`DataCollatorForEEG`].
    """
    several = not isinstance(labels, str) and np.ndim(labels) == 1
    names = [name for name in (labels if several else [labels]) if isinstance(name, str)]
    if names or (several and len(labels) == 0 and label2id is not None):
        return _numbers_of_names(labels, several, label2id)
    array = np.asarray(labels)
    if array.dtype.kind not in "biuf" or array.size == 0:
        raise ValueError(f"labels of a window must be numbers or names, but are {labels!r}.")
    return array.astype(np.int64 if array.ndim == 0 and array.dtype.kind != "f" else np.float32)


def _numbers_of_names(labels: Any, several: bool, label2id: Mapping[str, int] | None) -> np.ndarray:
    unknown = [name for name in (labels if several else [labels]) if name not in (label2id or {})]
    if unknown:
        known = f"label2id has {list(label2id)}" if label2id else "there is no label2id"
        raise ValueError(
            f"The labels {unknown} have no number: {known}. Give DataCollatorForEEG(label2id=...) a number for every "
            "name, as in model.config.label2id."
        )
    if not several:
        return np.asarray(label2id[labels], dtype=np.int64)
    row = np.zeros(len(label2id), dtype=np.float32)
    row[[label2id[name] for name in labels]] = 1
    return row


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
