"""
Scores of what a model says of EEG windows, per window, per recording and per person, with intervals over people.

All functions take the model's scores for each class, not its decisions. `EEGMetric` is for `evaluate`,
`compute_metrics` for `Trainer`, `classification_scores` for arrays; they return the same numbers. Several labels at
once and numbers to predict have scores of their own (target_scores.py); `compute_metrics` and `scores_of` choose.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import evaluate
import numpy as np
from datasets import Dataset, Features, List, Value
from scipy.special import expit, softmax
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, recall_score, roc_auc_score
from transformers import EvalPrediction

from ..data.targets import MAIN_SCORES, NUMBERS, ONE_CLASS, SCORE_TITLES, SEVERAL, Targets
from .target_scores import (
    macro_auroc,
    mean_correlation,
    multi_label_scores,
    over_draws,
    regression_scores,
    scores_by_name,
)


CALIBRATION_BINS = 10


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean recall of the classes present in `labels`."""
    # balanced_accuracy_score is the same number, but warns where a class is predicted that is not present.
    decisions = probabilities.argmax(axis=1)
    return float(recall_score(labels, decisions, labels=np.unique(labels), average="macro", zero_division=0))


def cohen_kappa(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Agreement beyond chance; nan where labels and decisions are all one class, where chance agrees fully too."""
    decisions = probabilities.argmax(axis=1)
    if len(np.union1d(labels, decisions)) == 1:
        return float("nan")
    return float(cohen_kappa_score(labels, decisions))


def weighted_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean F1 of the classes, weighted by how often each is present in `labels`."""
    return float(f1_score(labels, probabilities.argmax(axis=1), average="weighted", zero_division=0))


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve: of class 1 for two classes, else the mean of one-vs-rest over the classes present."""
    return _ranking_score(roc_auc_score, labels, probabilities)


def auc_pr(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Average precision: of class 1 for two classes, else the mean of one-vs-rest over the classes present."""
    return _ranking_score(average_precision_score, labels, probabilities)


def _ranking_score(score: Callable, labels: np.ndarray, probabilities: np.ndarray) -> float:
    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    positive_classes = [1] if probabilities.shape[1] == 2 else present
    return float(np.mean([score(labels == index, probabilities[:, index]) for index in positive_classes]))


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    score.__name__: score for score in (balanced_accuracy, cohen_kappa, weighted_f1, auroc, auc_pr)
}


def classification_scores(
    predictions: np.ndarray | Sequence,
    references: np.ndarray | Sequence,
    recordings: Sequence | None = None,
    from_logits: bool = True,
) -> dict[str, float]:
    """
    `balanced_accuracy`, `cohen_kappa`, `weighted_f1`, `auroc` and `auc_pr` of windows and, on request, of recordings.

    With two classes, `auroc` and `auc_pr` are those of class 1; with more, the mean of one-vs-rest over the classes
    present in `references`. An undefined score is nan: `auroc` and `auc_pr` where only one class is present,
    `cohen_kappa` where, in addition, no other class is predicted.

    Args:
        predictions: score of each class for each window, `[n_windows, n_classes]`, two classes or more.
        references: class of each window, `[n_windows]`, from 0.
        recordings: the recording that each window comes from, `[n_windows]`. The probabilities of a recording's
            windows are averaged and scored as well, with the prefix `recording_`; not where windows of one recording
            differ in class (labels for each trial, say).
        from_logits: whether softmax turns `predictions` into probabilities; otherwise they are probabilities already,
            or any scores that are higher for likelier classes.

    Raises:
        ValueError: where lengths or shapes disagree, there is no window, a prediction is not finite, or a label is not
            one of the classes.
    """
    labels, probabilities = _checked(predictions, references, from_logits)
    return _with_recordings(_class_scores, labels, probabilities, recordings)


def _class_scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    return {name: score(labels, probabilities) for name, score in SCORES.items()}


def _with_recordings(
    score: Callable[[np.ndarray, np.ndarray], dict[str, float]],
    labels: np.ndarray,
    values: np.ndarray,
    recordings: Sequence | None,
) -> dict[str, float]:
    """The scores of windows and, unless windows of one recording differ in their labels, of recordings' means."""
    scores = score(labels, values)
    if recordings is None:
        return scores
    windows = list(_windows_by_group(recordings, len(labels)).values())
    if any((labels[rows] != labels[rows[0]]).any() for rows in windows):
        return scores
    means = np.array([values[rows].mean(axis=0) for rows in windows])
    of_recordings = score(labels[[rows[0] for rows in windows]], means)
    return scores | {f"recording_{name}": value for name, value in of_recordings.items()}


def compute_metrics(
    eval_prediction: EvalPrediction, recordings: Sequence | None = None, problem_type: str | None = None
) -> dict[str, float]:
    """
    For `Trainer(compute_metrics=...)`: [`classification_scores`], [`multi_label_scores`] or [`regression_scores`], by
    the problem type.

    Args:
        eval_prediction: its `predictions` are logits `[n_windows, n_labels]`, or a tuple that begins with them, or a
            list of either for each batch.
        recordings: see [`classification_scores`]; in the order of the evaluation set, which `Trainer` keeps:
            `functools.partial(compute_metrics, recordings=dataset["recording"])`.
        problem_type: `model.config.problem_type`. By default one logit is a number to predict, one label for several
            logits a class, and a row of labels several labels at once if all are 0 or 1, else numbers.
    """
    logits, labels = whole(eval_prediction.predictions), whole(eval_prediction.label_ids)
    return window_scores(logits, labels, problem_type, recordings)


def whole(outputs: np.ndarray | tuple | list) -> np.ndarray:
    """
    What `Trainer` gathered as one array: of several outputs the first, of batches (`eval_do_concat_batches=False`)
    one after the other.
    """
    if isinstance(outputs, list) and isinstance(outputs[0], np.ndarray | tuple):
        return np.concatenate([whole(batch) for batch in outputs])
    return outputs[0] if isinstance(outputs, tuple) else outputs


def window_scores(
    logits: np.ndarray, labels: np.ndarray, problem_type: str | None = None, recordings: Sequence | None = None
) -> dict[str, float]:
    """The scores of [`compute_metrics`] from arrays, those of recordings with the prefix `recording_`."""
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    problem_type = problem_type or _problem_type_of(logits, labels)
    if problem_type == ONE_CLASS:
        return classification_scores(logits, labels, recordings)
    labels = labels.reshape(logits.shape) if labels.size == logits.size else labels
    score, values = (multi_label_scores, expit(logits)) if problem_type == SEVERAL else (regression_scores, logits)
    return _with_recordings(score, labels, values, recordings)


def _problem_type_of(logits: np.ndarray, labels: np.ndarray) -> str:
    if logits.ndim < 2 or logits.shape[-1] == 1:
        return NUMBERS
    if labels.ndim == 1:
        return ONE_CLASS
    return SEVERAL if np.isin(labels, (0, 1)).all() else NUMBERS


class EEGMetric(evaluate.Metric):
    """
    [`classification_scores`] as a metric of `evaluate`, without network.

    Example:

        >>> metric = EEGMetric()
        >>> metric.add_batch(predictions=logits, references=labels)  # [n_windows, n_classes], [n_windows]
        >>> metric.compute(recordings=names)  # one name for each window added, in this order; optional
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Balanced accuracy, Cohen's kappa, weighted F1, AUROC and AUC-PR of windows and recordings.",
            citation="",
            inputs_description=classification_scores.__doc__,
            # an integer type would cut labels that are no classes to integers, here they are refused
            features=Features({"predictions": List(Value("float64")), "references": Value("float64")}),
        )

    def _compute(
        self, predictions: list, references: list, recordings: Sequence | None = None, from_logits: bool = True
    ) -> dict[str, float]:
        return classification_scores(predictions, references, recordings, from_logits)


def scores_by_person(
    predictions: np.ndarray | Sequence, references: np.ndarray | Sequence, subjects: Sequence, from_logits: bool = True
) -> dict[str, dict[str, float]]:
    """
    Person -> [`classification_scores`] of that person's windows, people in sorted order.

    `subjects` names the person of each window; the other arguments and the errors are those of
    [`classification_scores`].
    """
    labels, probabilities = _checked(predictions, references, from_logits)
    return {
        str(subject): classification_scores(probabilities[rows], labels[rows], from_logits=False)
        for subject, rows in _windows_by_group(subjects, len(labels)).items()
    }


def draw_people(people: Sequence[str], resamples: int = 2000) -> np.ndarray:
    """
    Bootstrap over people: how often each one is drawn, with replacement, as many draws as there are people,
    `[resamples, people]`. The same people get the same draws, so methods can be compared draw by draw.
    """
    rng = np.random.default_rng(crc32(",".join(people).encode()))
    return rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=resamples)


def percentile_interval(draws: np.ndarray) -> list[float]:
    """95 % percentile interval."""
    return np.quantile(draws, [0.025, 0.975]).tolist()


@dataclass
class AccuracyOverPeople:
    """
    Balanced accuracy, or a difference of two, with its uncertainty over people: how it might have come out with other
    people from the same population. Windows of one person resemble each other, so drawing windows instead would give
    far too narrow an interval. With fewer than six people the interval means little: report each person.

    Args:
        value: of all windows together.
        by_person: of each person's windows.
        draws: of all windows of the people of each draw, see [`draw_people`], `[resamples]`.
    """

    value: float
    by_person: dict[str, float]
    draws: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, dataset: Dataset) -> "AccuracyOverPeople":
        """From scores of the classes, `[windows, classes]`; in each draw, classes without windows do not count."""
        labels = np.asarray(dataset["labels"])
        people, person = np.unique(np.asarray(dataset["subject"]), return_inverse=True)
        correct, total = np.zeros((2, len(people), scores.shape[1]))
        np.add.at(total, (person, labels), 1)
        np.add.at(correct, (person, labels), scores.argmax(axis=1) == labels)
        times = draw_people(people.tolist())
        by_person = dict(zip(people.tolist(), _mean_recall(correct, total).tolist(), strict=True))
        value = float(_mean_recall(correct.sum(axis=0), total.sum(axis=0)))
        return cls(value, by_person, _mean_recall(times @ correct, times @ total))

    @classmethod
    def mean(cls, parts: Sequence["AccuracyOverPeople"]) -> "AccuracyOverPeople":
        """Over methods on the same people, or over tasks; `by_person` then has the people that all tasks share."""
        people = set.intersection(*(set(part.by_person) for part in parts))
        by_person = {name: float(np.mean([part.by_person[name] for part in parts])) for name in sorted(people)}
        return cls(
            float(np.mean([part.value for part in parts])), by_person, np.mean([part.draws for part in parts], axis=0)
        )

    def __sub__(self, other: "AccuracyOverPeople") -> "AccuracyOverPeople":
        """The difference, paired over people."""
        by_person = {name: value - other.by_person[name] for name, value in self.by_person.items()}
        return AccuracyOverPeople(self.value - other.value, by_person, self.draws - other.draws)

    @property
    def interval(self) -> list[float]:
        """95 % over people."""
        return percentile_interval(self.draws)

    def to_dict(self) -> dict:
        return {"value": self.value, "interval": self.interval, "by_person": self.by_person}


def _mean_recall(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Balanced accuracy from counts `[..., classes]`, over the classes that have windows."""
    recalls = np.divide(correct, total, out=np.zeros(correct.shape), where=total > 0)
    return recalls.sum(axis=-1) / (total > 0).sum(axis=-1)


def signed(difference: dict) -> str:
    """A difference with its interval, from `to_dict`: `+0.012 (-0.034 to +0.058)`."""
    low, high = difference["interval"]
    return f"{difference['value']:+.3f} ({low:+.3f} to {high:+.3f})"


def scores_of(logits: np.ndarray, dataset: Dataset, problem_type: str | None = None) -> dict:
    """
    The scores of windows and recordings ([`compute_metrics`]), with `problem_type`, `chance`, the numbers of `people`
    and `windows`, and:

    | problem type | interval over people | `chance` | `by_person` |
    |---|---|---|---|
    | one class | `balanced_accuracy_interval` ([`AccuracyOverPeople`]) | 1 / classes | balanced accuracy |
    | several labels | `macro_auroc_interval` | 0.5 | `label_accuracy` |
    | numbers | `pearson_r_interval` | 0 | `mae` |

    Draws of people in which such a score is undefined do not count. Several labels or numbers also have `by_name`,
    the scores of each. (The `results.json` of the first task checkpoints in `hub/` have intervals of 1,000 draws
    instead of 2,000.)

    Args:
        logits: the model's, `[windows, labels]`, also as `Trainer.predict` gives them.
        dataset: the windows, with `labels`, `subject` and `recording`.
        problem_type: by default that of the column `labels`, see [`Targets.of`].
    """
    targets = Targets.of(dataset, problem_type)
    labels, values = targets.array(dataset), np.asarray(whole(logits), dtype=np.float64)
    scores = window_scores(values, labels, targets.problem_type, list(dataset["recording"]))
    people, person = np.unique(np.asarray(dataset["subject"]), return_inverse=True)
    common = {"problem_type": targets.problem_type, "people": len(people), "windows": len(values)}
    if targets.problem_type == ONE_CLASS:
        accuracy = AccuracyOverPeople.of(values, dataset)
        return {
            **scores,
            "balanced_accuracy_interval": accuracy.interval,
            "chance": 1 / values.shape[1],
            **common,
            "by_person": accuracy.by_person,
        }
    labels = labels.reshape(values.shape)
    if targets.problem_type == SEVERAL:
        values, score, main, chance, of_person = expit(values), multi_label_scores, macro_auroc, 0.5, "label_accuracy"
    else:
        score, main, chance, of_person = regression_scores, mean_correlation, 0.0, "mae"
    draws = over_draws(main, labels, values, person, draw_people(people.tolist()))
    draws = draws[~np.isnan(draws)]  # of few people, some draws have nobody with the label, or all with one number
    return {
        **scores,
        f"{MAIN_SCORES[targets.problem_type]}_interval": percentile_interval(draws) if len(draws) else [np.nan] * 2,
        "chance": chance,
        **common,
        "by_person": {
            name: score(labels[person == index], values[person == index])[of_person]
            for index, name in enumerate(people.tolist())
        },
        "by_name": scores_by_name(score, targets.names, labels, values),
    }


def calibration_of(logits: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """
    How far the probabilities of windows can be taken at their word: `confidence`, the mean probability of the
    predicted class; `accuracy`, how often it is right; and `calibration_error`, the expected calibration error: the
    mean distance of the two in ten bins of confidence, equally wide.

    Args:
        logits: of a model with one class for each window, `[windows, classes]`, also as `Trainer.predict` gives them.
        dataset: the windows, with `labels`.
    """
    labels, probabilities = _checked(whole(logits), dataset["labels"], from_logits=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    found = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    distances = [abs((confidence - right)[found == number].sum()) for number in range(CALIBRATION_BINS)]
    return {
        "confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "calibration_error": float(sum(distances) / len(labels)),
    }


def score_table(title: str, methods: dict[str, dict | None]) -> str:
    """A table with a line for each method that has scores, see [`scores_of`]."""
    methods = {method: scores for method, scores in methods.items() if scores is not None}
    problem_type = next(iter(methods.values())).get("problem_type", ONE_CLASS)
    main, columns = MAIN_SCORES[problem_type], SCORE_TITLES[problem_type]
    titles = {columns[main]: len(columns[main]) + 2, "95 % over people": 19}
    titles |= {title: max(8, len(title) + 2) for name, title in columns.items() if name != main}
    titles["per recording"] = 15
    lines = [title, f"{'':24}" + "".join(f"{name:>{width}}" for name, width in titles.items())]
    for method, scores in methods.items():
        low, high = scores[f"{main}_interval"]
        recording = scores.get(f"recording_{main}")
        cells = [f"{scores[main]:.3f}", f"{low:.3f} .. {high:.3f}"]
        cells += [f"{scores[name]:.3f}" for name in columns if name != main]
        cells.append("-" if recording is None else f"{recording:.3f}")
        row = zip(cells, titles.values(), strict=True)
        lines.append(f"{method:24}" + "".join(f"{cell:>{width}}" for cell, width in row))
    return "\n".join(lines)


def print_scores(title: str, methods: dict[str, dict | None]) -> None:
    """Prints [`score_table`], below a blank line."""
    print(f"\n{score_table(title, methods)}")


def _checked(
    predictions: np.ndarray | Sequence, references: np.ndarray | Sequence, from_logits: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Labels `[n_windows]` and probabilities `[n_windows, n_classes]` as arrays."""
    predictions = np.asarray(predictions, dtype=np.float64)
    labels = np.asarray(references)
    if predictions.ndim != 2 or predictions.shape[1] < 2 or not len(predictions):
        raise ValueError(
            f"Expected predictions [n_windows, n_classes] with 2 classes or more, but got {predictions.shape}."
        )
    if labels.shape != predictions.shape[:1]:
        raise ValueError(f"Expected a label for each of {len(predictions)} predictions, but got {labels.shape}.")
    if not np.isfinite(predictions).all():
        rows = np.flatnonzero(~np.isfinite(predictions).all(axis=1))
        raise ValueError(f"{len(rows)} of {len(predictions)} predictions are not finite, the first in row {rows[0]}.")
    unknown = np.setdiff1d(labels, np.arange(predictions.shape[1]))
    if len(unknown):
        raise ValueError(f"Labels must be 0 to {predictions.shape[1] - 1}, but there are {unknown.tolist()}.")
    return labels.astype(np.int64), softmax(predictions, axis=1) if from_logits else predictions


def _windows_by_group(groups: Sequence, n_windows: int) -> dict[Any, np.ndarray]:
    """Recording or person -> the numbers of its windows, in sorted order."""
    groups = np.asarray(groups)
    if groups.shape != (n_windows,):
        raise ValueError(f"Expected a recording or person for each of {n_windows} windows, but got {groups.shape}.")
    return {group: np.flatnonzero(groups == group) for group in np.unique(groups)}


__all__ = [
    "SCORES",
    "AccuracyOverPeople",
    "EEGMetric",
    "calibration_of",
    "classification_scores",
    "compute_metrics",
    "draw_people",
    "percentile_interval",
    "print_scores",
    "score_table",
    "scores_by_person",
    "scores_of",
    "signed",
    "window_scores",
]
