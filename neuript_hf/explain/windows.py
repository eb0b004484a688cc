"""What is explained: windows in groups of the same channels, and the scores of their targets."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F

from ..configuration_neuript import NeurIPTConfig
from ..data.collator import AXES, DataCollatorForEEG
from ..data.people import full_name
from ..data.targets import NUMBERS, ONE_CLASS, Targets, refuse_other_names
from ..data.windows import channel_reports
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..losses import problem_type_of
from ..modeling_neuript import NeurIPTForSequenceClassification


# Columns of the tables that say which window a row is about.
ABOUT = ["person", "recording", "onset"]
# Columns that say what a value is about; `start` and `stop` are seconds from the window's start, or hertz.
PARTS = ["kind", "what", "start", "stop"]


def windows_of(
    recording: Any, extractor: NeurIPTFeatureExtractor, *, name: str = "", person: str = "", **settings: Any
) -> Dataset:
    """
    The windows of one recording without labels, with the columns that [`load_recordings`] gives those of many.

    Args:
        recording: path, `Recording`, `mne.io.Raw`, `mne.Epochs` or array.
        extractor: the checkpoint's.
        name: of the recording.
        person: who it is; empty = nobody knows.
        settings: further arguments of the extractor's call, such as `stride_seconds`, `onsets` or `sampling_rate`.

    Raises:
        ValueError: as the extractor.
    """
    features = extractor(recording, **settings)
    count = len(features.onsets)
    columns = {column: list(values) for column, values in features.items()}
    columns |= {"subject": [person] * count, "recording": [name] * count, "onset": features.onsets.tolist()}
    return Dataset.from_dict(columns | {"report": [json.dumps(features.report.to_dict())] + [""] * (count - 1)})


@dataclass
class Group:
    """
    Windows with the same channels and the same length.

    Args:
        rows: their numbers in the data set.
        names: of the channels of `batch`.
        good: numbers of the channels that are not masked as bad.
        batch: tensors of the batch contract, without labels.
        numbered: whether the model gives a channel's number a meaning. Then bad channels stay in their places and
            `channel_mask` says which they are; else they are left out, which gives the same answers and is faster.
    """

    rows: list[int]
    names: list[str]
    good: list[int]
    batch: dict[str, Tensor]
    numbered: bool

    def without_channel(self, channel: int) -> dict[str, Tensor]:
        """The batch as if this channel were bad."""
        if self.numbered:
            mask = self.batch.get("channel_mask", torch.ones(self.batch["input_values"].shape[:2], dtype=torch.bool))
            return self.batch | {"channel_mask": mask & (torch.arange(mask.shape[1]) != channel)}
        return _keep_channels(self.batch, [index for index in range(len(self.names)) if index != channel])

    def with_signal(self, signal: Tensor) -> dict[str, Tensor]:
        """The batch with another signal `[B, C, T]`."""
        return self.batch | {"input_values": signal}


def _keep_channels(batch: Mapping[str, Tensor], kept: list[int]) -> dict[str, Tensor]:
    return {name: tensor[:, kept] if AXES[name].startswith("C") else tensor for name, tensor in batch.items()}


def grouped(config: NeurIPTConfig, windows: Dataset, reports: Mapping[str, dict] | None = None) -> list[Group]:
    """
    Windows in groups that need no padding.

    Args:
        config: of the model.
        windows: as [`load_recordings`] or [`windows_of`] makes them.
        reports: channel reports of recordings whose first window, which holds the report, is not among `windows`.

    Raises:
        ValueError: where the names of the channels are not known, or a model whose answer depends on the whole batch.
    """
    if config.expert_capacity_factor is not None:
        raise ValueError(
            "With expert_capacity_factor the answer for a window depends on its batch, so that a difference between "
            "two answers says nothing. Load the model with expert_capacity_factor=None."
        )
    if not len(windows):
        raise ValueError("There is no window to explain.")
    missing = [column for column in ("recording", "report") if column not in windows.column_names]
    if missing:
        raise ValueError(
            f"The windows have no column {' and '.join(missing)}. Make them with load_recordings or "
            "neuript_hf.explain.windows.windows_of, which keep the names of the channels there."
        )
    reports = channel_reports(windows) | dict(reports or {})
    if unknown := sorted(set(windows["recording"]) - set(reports)):
        raise ValueError(
            f"The channel names of {len(unknown)} recordings, e.g. {unknown[0]!r}, are not known, since their first "
            "windows are missing. Take them from all windows: reports=channel_reports(windows['test'])."
        )
    numbered = config.channel_groups is not None or config.pooling == "none" or config.position_encoding != "3d"
    members = defaultdict(list)
    examples = [windows[index] for index in range(len(windows))]
    for row, example in enumerate(examples):
        names = tuple(channel["name"] for channel in reports[example["recording"]]["channels"])
        signal, mask = np.asarray(example["input_values"]), example.get("channel_mask")
        if len(names) != len(signal):
            raise ValueError(
                f"Window {row} has {len(signal)} channels, but the report of its recording has {len(names)}: {names}."
            )
        mask = (True,) * len(names) if mask is None else tuple(map(bool, mask))
        members[names, mask, signal.shape[1]].append(row)
    if any(not np.all(example.get("attention_mask", True)) for example in examples):
        raise ValueError("Some windows are padded (attention_mask). Give windows of their real length.")
    collate = DataCollatorForEEG()
    groups = []
    for (names, mask, _), rows in members.items():
        batch = collate([{name: examples[row][name] for name in AXES if name in examples[row]} for row in rows])
        good = np.flatnonzero(mask).tolist()
        if not numbered and len(good) < len(names):
            batch = _keep_channels(batch, good)
            del batch["channel_mask"]
            names, good = [names[index] for index in good], list(range(len(good)))
        groups.append(Group(rows, list(names), good, batch, numbered))
    return groups


def about_windows(windows: Dataset) -> pd.DataFrame:
    """Person, recording and onset (seconds) of each window; the person is empty where nothing says who it is."""
    people = windows["subject"] if "subject" in windows.column_names else [""] * len(windows)
    sets = windows["dataset"] if "dataset" in windows.column_names else [""] * len(windows)
    people = [full_name(name or "", person or "") for name, person in zip(sets, people, strict=True)]
    onsets = windows["onset"] if "onset" in windows.column_names else [np.nan] * len(windows)
    return pd.DataFrame(dict(zip(ABOUT, (people, list(windows["recording"]), list(onsets)), strict=True)))


# Targets


def refuse_unfit(
    model: NeurIPTForSequenceClassification,
    windows: Dataset,
    extractor: NeurIPTFeatureExtractor,
    target: str | None = None,
) -> None:
    """
    Raises:
        ValueError: for an untrained head, windows that the model does not expect, another `target` than `None` and
            `"predicted"`, and labels that are not the model's.
    """
    model.refuse_untrained()
    extractor.refuse_other_windows(model.config)
    if target not in (None, "predicted"):
        raise ValueError(f"target must be None (the labels, if there are any) or 'predicted', but is {target!r}.")
    if target is None:
        refuse_other_names(model.config, windows)


def wanted_targets(
    model: NeurIPTForSequenceClassification, windows: Dataset, target: str | None, logits: Tensor
) -> Tensor:
    """
    What is explained of each window: its class, int64 `[B]`; of several labels or numbers a row, `[B, num_labels]`.

    Args:
        target: `None` = the labels of the windows, or what the model says where they have none; `"predicted"` = what
            the model says in any case.
        logits: of the windows, `[B, num_labels]`.
    """
    problem_type = problem_type_of(model.config)
    if target is None and "labels" in windows.column_names:
        labels = torch.as_tensor(Targets.of(windows, problem_type).array(windows))
        return labels if problem_type == ONE_CLASS else labels.reshape(logits.shape)
    return logits.argmax(dim=-1) if problem_type == ONE_CLASS else (logits >= 0).to(logits.dtype)


def target_scores(config: NeurIPTConfig, logits: Tensor, wanted: Tensor) -> Tensor:
    """
    The logarithm of the probability that the model gives to what is wanted, of numbers to predict the number itself,
    in the unit of the labels.

    Args:
        logits: `[..., B, num_labels]`.
        wanted: of [`wanted_targets`].

    Returns:
        `[..., B, S]`, with one score for a class, else one for each label.
    """
    problem_type = problem_type_of(config)
    if problem_type == NUMBERS:
        return logits
    if problem_type != ONE_CLASS:
        return F.logsigmoid(logits * (2 * wanted - 1))
    log_probabilities = F.logsigmoid(logits) if config.loss_type == "balanced_bce" else logits.log_softmax(dim=-1)
    return log_probabilities.gather(-1, wanted.expand(logits.shape[:-1])[..., None])


def target_names(config: NeurIPTConfig, wanted: Tensor) -> np.ndarray:
    """The name of each score of [`target_scores`], `[B, S]`: `"left"`; of a label that is absent `"not eye"`."""
    problem_type = problem_type_of(config)
    if problem_type == ONE_CLASS:
        return np.array([[config.id2label[index]] for index in wanted.tolist()])
    names = [config.id2label[index] for index in range(config.num_labels)]
    if problem_type == NUMBERS:
        return np.array([names] * len(wanted))
    return np.array([[name if on else f"not {name}" for name, on in zip(names, row, strict=True)] for row in wanted])


def value_title(config: NeurIPTConfig) -> str:
    """What the values of [`occlusion`] are, for an axis."""
    return "fall of the answer" if problem_type_of(config) == NUMBERS else "log-probability lost"


# Tables


def rows_of(
    about: pd.DataFrame, targets: np.ndarray, kind: str, parts: list[tuple[str, float, float]], values: np.ndarray
) -> pd.DataFrame:
    """
    A table with a row for each window, target and part.

    Args:
        about: a row for each window, of [`about_windows`]; their index is kept.
        targets: of [`target_names`], `[B, S]`.
        kind: of the parts.
        parts: `what`, `start` and `stop` of each.
        values: `[parts, B, S]`.
    """
    count, windows, scores = values.shape
    table = about.iloc[np.repeat(np.arange(windows), scores * count)].copy()
    table["target"] = np.repeat(targets.reshape(-1), count)
    table["kind"] = kind
    for name, column in zip(PARTS[1:], zip(*parts, strict=True), strict=True):
        table[name] = np.tile(np.array(column), windows * scores)
    table["value"] = values.transpose(1, 2, 0).reshape(-1).astype(np.float64)
    return table


def in_order(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables of groups as one, in the order of the windows."""
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)


# Forward passes


@contextmanager
def evaluating(model: NeurIPTForSequenceClassification) -> Iterator[None]:
    """The model without dropout, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@torch.inference_mode()
def logits_of(
    model: NeurIPTForSequenceClassification, variants: Iterable[Mapping[str, Tensor]], batch_size: int
) -> Tensor:
    """
    The answers for variants of the same windows, which fill batches together: `[variants, B, num_labels]`, on the CPU.
    """
    found, variants = [], iter(variants)
    first = next(variants)
    count = len(first["input_values"])
    at_once = max(1, batch_size // count)
    joined = [first, *islice(variants, at_once - 1)]
    while joined:
        batch = {name: torch.cat([variant[name] for variant in joined]) for name in first}
        for start in range(0, len(batch["input_values"]), batch_size):
            part = {name: tensor[start : start + batch_size].to(model.device) for name, tensor in batch.items()}
            found.append(model(**part).logits.float().cpu())
        joined = list(islice(variants, at_once))
    return torch.cat(found).unflatten(0, (-1, count))


__all__ = [
    "ABOUT",
    "PARTS",
    "Group",
    "about_windows",
    "evaluating",
    "grouped",
    "in_order",
    "logits_of",
    "refuse_unfit",
    "rows_of",
    "target_names",
    "target_scores",
    "value_title",
    "wanted_targets",
    "windows_of",
]
