"""What windows are labelled with: one class, several labels at once, or numbers to predict."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, List, Value
from transformers.utils import logging

from ..configuration_neuript import NeurIPTConfig
from ..losses import problem_type_of
from .collator import LABEL_COLUMNS


logger = logging.get_logger(__name__)

ONE_CLASS, SEVERAL, NUMBERS = "single_label_classification", "multi_label_classification", "regression"
PROBLEM_TYPES = (ONE_CLASS, SEVERAL, NUMBERS)
# Between the labels of a recording that has several.
SEPARATOR = ";"
YES_OR_NO = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}
# The score that has an interval over people, and what tables show.
MAIN_SCORES = {ONE_CLASS: "balanced_accuracy", SEVERAL: "macro_auroc", NUMBERS: "pearson_r"}
SCORE_TITLES = {
    ONE_CLASS: {
        "balanced_accuracy": "balanced accuracy",
        "cohen_kappa": "Cohen's kappa",
        "weighted_f1": "weighted F1",
        "auroc": "AUROC",
    },
    SEVERAL: {
        "macro_auroc": "macro AUROC",
        "macro_auc_pr": "macro AUC-PR",
        "macro_f1": "macro F1",
        "micro_f1": "micro F1",
    },
    NUMBERS: {"pearson_r": "Pearson r", "r2": "R2", "rmse": "RMSE", "mae": "MAE"},
}
FAR_FROM_ONE = 10.0
CHOICE = (
    f"Say what the labels are: problem_type={ONE_CLASS!r} (each text is a class), {SEVERAL!r} (texts separated by "
    f"{SEPARATOR!r}, or columns of 0 and 1) or {NUMBERS!r} (numbers to predict)."
)


@dataclass
class Targets:
    """
    What the windows of a data set are labelled with.

    Args:
        problem_type: as in the configuration of a model.
        names: of the classes, the labels or the numbers, in their order.
        in_row: whether a window has a row of numbers; a class, and one number to predict, are not in a row.
    """

    problem_type: str
    names: list[str]
    in_row: bool

    @classmethod
    def of_entries(
        cls, entries: Sequence[Any], columns: Sequence[str], problem_type: str | None, ordered: bool = False
    ) -> "Targets":
        """
        Args:
            entries: of the recordings, or of the classes of annotations: a text, a number, or a row of them.
            columns: of the manifest that the entries come from.
            problem_type: `None` takes texts for classes and several columns of 0 and 1 for labels, and refuses what
                could be something else.
            ordered: whether names keep the order of the entries; otherwise that of the alphabet.

        Raises:
            ValueError: for entries that the problem type does not allow, or that need one.
        """
        if problem_type is None:
            problem_type = _infer(entries)
        elif problem_type not in PROBLEM_TYPES:
            nearest = get_close_matches(problem_type, PROBLEM_TYPES, n=1)
            raise ValueError(
                f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, but is {problem_type!r}."
                + (f" Did you mean {nearest[0]!r}?" if nearest else "")
            )
        rows = any(isinstance(entry, (tuple, list)) for entry in entries)
        if problem_type == ONE_CLASS:
            if rows:
                raise ValueError(f"One class for each window needs one label, but there are {entries[0]}. {CHOICE}")
            names = dict.fromkeys(map(str, entries))
        elif len(columns) > 1:
            names, ordered = columns, True
        elif problem_type == SEVERAL:
            names = dict.fromkeys(name for entry in entries for name in _labels(entry))
            if not names:
                raise ValueError("No recording has a label.")
        else:
            count = max(len(_cells(entry)) for entry in entries)
            names, ordered = [*columns] if count == 1 else [f"{columns[0]}_{index}" for index in range(count)], True
            rows = count > 1
        _refuse_two_spellings(names)
        targets = cls(problem_type, list(names) if ordered else sorted(names), problem_type == SEVERAL or rows)
        for entry in entries:
            targets.encode(entry)
        return targets

    @classmethod
    def of(cls, dataset: Dataset, problem_type: str | None = None) -> "Targets":
        """
        From the column `labels` of a data set, with the names that [`load_recordings`] keeps there.

        Args:
            dataset: the windows.
            problem_type: needed for rows of numbers from elsewhere; without it they are several labels at once, as in
                transformers.

        Raises:
            ValueError: if the data set has no labels, or labels that are neither numbers nor of the type `ClassLabel`.
        """
        feature = dataset.features.get("labels")
        if isinstance(feature, ClassLabel):
            _check_kind(problem_type, (ONE_CLASS,), feature)
            return cls(ONE_CLASS, list(feature.names), False)
        in_row = isinstance(feature, List)
        value = feature.feature if in_row else feature
        kind = np.dtype(value.dtype).kind if isinstance(value, Value) and value.dtype != "string" else ""
        if not kind or kind not in "biuf":
            raise ValueError(
                f"The data set needs a column labels of classes (ClassLabel), numbers or rows of numbers, but it is "
                f"{feature}. Of a column of names dataset.class_encode_column('labels') makes classes."
            )
        names = names_of(dataset)
        if in_row:
            possible = (SEVERAL,) if kind == "b" else (NUMBERS, SEVERAL) if names else (SEVERAL, NUMBERS)
        else:
            possible = (NUMBERS,) if kind == "f" else (ONE_CLASS, NUMBERS)
        _check_kind(problem_type, possible, feature)
        problem_type = problem_type or possible[0]
        if names is None:
            rows = dataset["labels"][:]
            count = len(rows[0]) if in_row else 1 if problem_type == NUMBERS else max(rows) + 1
            names = [f"LABEL_{index}" for index in range(count)]
        return cls(problem_type, names, in_row)

    @property
    def aim(self) -> str:
        """What a model is trained for, such as "to distinguish left, right"."""
        verb = {ONE_CLASS: "distinguish", SEVERAL: "find", NUMBERS: "predict"}[self.problem_type]
        return f"to {verb} {', '.join(self.names)}"

    @property
    def feature(self) -> ClassLabel | Value | List:
        """Type of the column `labels`; it keeps the names."""
        if self.problem_type == ONE_CLASS:
            return ClassLabel(names=self.names)
        value = Value("bool" if self.problem_type == SEVERAL else "float32", id=json.dumps(self.names))
        return List(value, length=len(self.names)) if self.in_row else value

    def encode(self, entry: Any) -> str | float | list[bool] | list[float]:
        """
        The label of a window from its entry.

        Raises:
            ValueError: if the entry is not of the problem type.
        """
        if self.problem_type == ONE_CLASS:
            return str(entry)
        if self.problem_type == SEVERAL and isinstance(entry, tuple):
            return [_yes_or_no(cell) for cell in entry]
        if self.problem_type == SEVERAL:
            present = _labels(entry)
            return [name in present for name in self.names]
        numbers = [_number(cell) for cell in _cells(entry)]
        if len(numbers) != len(self.names):
            raise ValueError(f"Every window needs {len(self.names)} numbers, but {entry!r} are {len(numbers)}.")
        return numbers if self.in_row else numbers[0]

    def absent(self, labels: np.ndarray) -> list[str]:
        """Classes or labels that no window has, from labels as [`array`] gives them."""
        if self.problem_type == NUMBERS:
            return []
        counts = labels.sum(axis=0) if self.in_row else np.bincount(labels, minlength=len(self.names))
        return [name for name, count in zip(self.names, counts, strict=True) if not count]

    def array(self, dataset: Dataset) -> np.ndarray:
        """The labels of all windows: int64 `[windows]` for classes, else float64 `[windows]` or `[windows, names]`."""
        return np.asarray(dataset["labels"][:], dtype=np.int64 if self.problem_type == ONE_CLASS else np.float64)


def standardisation(numbers: np.ndarray) -> dict[str, list[float]]:
    """`target_mean` and `target_scale` of a configuration, from `numbers` to predict, `[windows, ...]`."""
    rows = numbers.reshape(len(numbers), -1)
    return {"target_mean": rows.mean(axis=0).tolist(), "target_scale": rows.std(axis=0).tolist()}


def warn_of_scale(config: NeurIPTConfig, train: Dataset) -> None:
    """Warns of numbers to predict that a new head, which answers about 0 to 1, would take very long to reach."""
    if problem_type_of(config) != NUMBERS or config.target_scale is not None or "labels" not in train.column_names:
        return
    fields = standardisation(np.asarray(train["labels"][:], dtype=np.float64))
    if max(map(abs, fields["target_mean"] + fields["target_scale"])) > FAR_FROM_ONE:
        settings = ", ".join(
            f"{name}={[float(f'{value:.4g}') for value in values]}" for name, values in fields.items()
        )
        logger.warning(
            f"The numbers to predict are far from 1, so a new head would take long to learn them. Set {settings} in "
            "the configuration: the head then learns standardised numbers, and answers in the unit of the labels."
        )


def take_names(config: NeurIPTConfig, train: Dataset) -> None:
    """Gives a configuration that names nothing (`LABEL_0`, ...) the training data set's names of the labels."""
    names = names_of(train)
    if names and len(names) == config.num_labels and _is_unnamed(config) and not all(map(str.isdecimal, names)):
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
        logger.info(f"The model's labels are called as those of the data set: {', '.join(names)}.")


def refuse_other_names(config: NeurIPTConfig, dataset: Dataset) -> None:
    """
    Numbers of labels mean what the data set says, and answers get the names of the configuration.

    Raises:
        ValueError: if these are not the same names in the same order. `LABEL_0`, as transformers names what has no
            name, and numbers as names say nothing.
    """
    named = config.id2label
    stated, meant = [named.get(index) for index in range(len(named))], names_of(dataset)
    if meant is None or _is_unnamed(config) or all(name.isdecimal() for name in meant) or stated == meant:
        return
    raise ValueError(
        f"The labels of the data set are {meant}, in this order, but id2label of the model says {stated}: its answers "
        f"would have wrong names. Load the model with id2label={dict(enumerate(meant))} and "
        f"label2id={ {name: index for index, name in enumerate(meant)} }, and with ignore_mismatched_sizes=True for "
        "another number of labels; or bring the data set into the model's order with "
        "dataset.align_labels_with_mapping(model.config.label2id, 'labels')."
    )


def names_of(dataset: Dataset) -> list[str] | None:
    """What the column of labels says of the names of classes, labels or numbers; `None` if nothing."""
    feature = next((dataset.features[name] for name in LABEL_COLUMNS if name in dataset.features), None)
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    value = feature.feature if isinstance(feature, List) else feature
    return json.loads(value.id) if isinstance(value, Value) and value.id else None


def _is_unnamed(config: NeurIPTConfig) -> bool:
    return all(re.fullmatch(r"LABEL_\d+", str(name)) for name in config.id2label.values())


def _check_kind(problem_type: str | None, possible: Sequence[str], feature: Any) -> None:
    if problem_type not in (None, *possible):
        raise ValueError(
            f"The column labels is {feature}, which is for problem_type {' or '.join(possible)}, not {problem_type}. "
            "Load the recordings with load_recordings(..., problem_type=...), in programs --problem_type."
        )


def _infer(entries: Sequence[Any]) -> str:
    """Classes, or labels in columns of 0 and 1; refuses what could be something else."""
    if any(isinstance(entry, (tuple, list)) for entry in entries):
        if all(
            isinstance(entry, tuple) and all(str(cell).lower() in YES_OR_NO for cell in entry) for entry in entries
        ):
            return SEVERAL
        raise ValueError(f"Labels such as {entries[0]} may be labels or numbers. {CHOICE}")
    texts = sorted(set(map(str, entries)))
    if several := [text for text in texts if SEPARATOR in text]:
        raise ValueError(f"A label such as {several[0]!r} may be one class or several labels. {CHOICE}")
    numbers = [text.replace(",", ".") for text in texts]
    if all(map(_is_number, numbers)) and (
        real := [text for text, number in zip(texts, numbers, strict=True) if not float(number).is_integer()]
    ):
        raise ValueError(f"Labels such as {real[0]} may be classes or numbers to predict. {CHOICE}")
    return ONE_CLASS


def _refuse_two_spellings(names: Iterable[str]) -> None:
    alike: dict[str, str] = {}
    for name in names:
        if (other := alike.setdefault(" ".join(name.split()).casefold(), name)) != name:
            raise ValueError(
                f"The labels {other!r} and {name!r} differ in capitals or blanks only and would be two. Spell "
                "them alike, or give them names that differ."
            )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(cell: Any) -> float:
    if not _is_number(str(cell)):
        if _is_number(str(cell).replace(",", ".", 1)):
            raise ValueError(f"{cell!r} is not a number to predict: a decimal point is expected, as in 23.5.")
        raise ValueError(
            f"{cell!r} is not a number to predict; expected are numbers such as 23.5. If the labels are no numbers, "
            f"choose another problem_type: {ONE_CLASS!r} (classes) or {SEVERAL!r} (several at once)."
        )
    return float(cell)


def _yes_or_no(cell: Any) -> bool:
    if str(cell).lower() not in YES_OR_NO:
        raise ValueError(f"A column of a label must hold 1 for recordings that have it, else 0, but holds {cell!r}.")
    return YES_OR_NO[str(cell).lower()]


def _labels(entry: Any) -> list[str]:
    """The labels of a text such as `"eye;muscle"`, or of a row; none of `";"`."""
    return [name for name in (str(cell).strip() for cell in _cells(entry)) if name]


def _cells(entry: Any) -> Sequence[Any]:
    return entry if isinstance(entry, (tuple, list)) else str(entry).split(SEPARATOR)


__all__ = [
    "MAIN_SCORES",
    "PROBLEM_TYPES",
    "SCORE_TITLES",
    "Targets",
    "refuse_other_names",
    "standardisation",
    "take_names",
    "warn_of_scale",
]
