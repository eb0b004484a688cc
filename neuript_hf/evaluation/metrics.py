"""
Scores of a classifier of EEG windows, per window, per recording and per person, with intervals over people.

All take the model's scores for each class, not its decisions. `EEGMetric` is for `evaluate`, `compute_metrics` for
`Trainer`, `classification_scores` for arrays at hand; they return the same numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value
from scipy.special import softmax
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, recall_score, roc_auc_score
from transformers import EvalPrediction


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean recall of the classes present in `labels`."""
    # balanced_accuracy_score is the same number, but warns where a class is predicted that is not present.
    decisions = probabilities.argmax(axis=1)
    return float(recall_score(labels, decisions, labels=np.unique(labels), average="macro", zero_division=0))


def cohen_kappa(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Agreement beyond chance; nan where labels and decisions are all one class, because chance agrees fully too."""
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
    `balanced_accuracy`, `cohen_kappa`, `weighted_f1`, `auroc` and `auc_pr` of windows and, where asked, of recordings.

    With two classes, `auroc` and `auc_pr` are those of class 1; with more, the mean of one-vs-rest over the classes
    present in `references`. A score that is not defined is nan: `auroc` and `auc_pr` where only one class is present,
    `cohen_kappa` where moreover nothing else is predicted.

    Args:
        predictions: score of each class for each window, `[n_windows, n_classes]`, two classes or more.
        references: class of each window, `[n_windows]`, from 0.
        recordings: the recording that each window comes from, `[n_windows]`. The probabilities of a recording's
            windows are averaged, and the same scores come again with the prefix `recording_`. They make no sense, and
            are left out, where windows of one recording differ in class (labels for each trial, say).
        from_logits: softmax turns `predictions` into probabilities. `False`: they are probabilities already, or any
            scores that are higher where a class is likelier.

    Raises:
        ValueError: where lengths or shapes disagree, there is no window, a prediction is not finite, or a label is not
            one of the classes.
    """
    labels, probabilities = _checked(predictions, references, from_logits)
    scores = {name: score(labels, probabilities) for name, score in SCORES.items()}
    if recordings is None:
        return scores
    windows = list(_windows_by_group(recordings, len(labels)).values())
    if any(len(np.unique(labels[rows])) > 1 for rows in windows):
        return scores
    labels = np.array([labels[rows[0]] for rows in windows])
    probabilities = np.array([probabilities[rows].mean(axis=0) for rows in windows])
    return scores | {f"recording_{name}": score(labels, probabilities) for name, score in SCORES.items()}


def compute_metrics(eval_prediction: EvalPrediction, recordings: Sequence | None = None) -> dict[str, float]:
    """
    [`classification_scores`] for `Trainer(compute_metrics=...)`.

    Args:
        eval_prediction: its `predictions` are logits `[n_windows, n_classes]`, or a tuple that begins with them.
        recordings: see [`classification_scores`]; in the order of the evaluation set, which `Trainer` keeps:
            `functools.partial(compute_metrics, recordings=dataset["recording"])`.
    """
    predictions = eval_prediction.predictions
    logits = predictions[0] if isinstance(predictions, tuple) else predictions
    return classification_scores(logits, eval_prediction.label_ids, recordings)


class EEGMetric(evaluate.Metric):
    """
    [`classification_scores`] as a metric of `evaluate`, without network.

    Example:

        >>> metric = EEGMetric()
        >>> metric.add_batch(predictions=logits, references=labels)  # [n_windows, n_classes], [n_windows]
        >>> metric.compute(recordings=names)  # of all windows added, in their order; or without
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Balanced accuracy, Cohen's kappa, weighted F1, AUROC and AUC-PR of windows and recordings.",
            citation="",
            inputs_description=classification_scores.__doc__,
            features=Features({"predictions": List(Value("float64")), "references": Value("int64")}),
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


def bootstrap_interval(
    predictions: np.ndarray | Sequence,
    references: np.ndarray | Sequence,
    subjects: Sequence,
    score: str = "balanced_accuracy",
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    from_logits: bool = True,
) -> tuple[float, float]:
    """
    95 % percentile interval of a score over people: how it might have come out with others from the same population.

    People, with all their windows, are drawn with replacement, as many as there are, and the score of their windows
    together is computed anew. Windows of one person resemble each other, so drawing windows would give an interval far
    too narrow. With fewer than six people the interval means little: show [`scores_by_person`] instead.

    Args:
        predictions: as in [`classification_scores`], like `references` and `from_logits`.
        subjects: person of each window, `[n_windows]`.
        score: a name in `SCORES`.
        n_resamples: draws of people. Draws in which the score is not defined are left out.
        seed: the same seed gives the same interval.

    Returns:
        Lower and upper end; nan where the score is defined in no draw.

    Raises:
        ValueError: where `score` is unknown, or as [`classification_scores`].
    """
    if score not in SCORES:
        raise ValueError(f"score must be one of {sorted(SCORES)}, but is {score!r}.")
    labels, probabilities = _checked(predictions, references, from_logits)
    windows = list(_windows_by_group(subjects, len(labels)).values())
    rng = np.random.default_rng(seed)
    draws = []
    for people in rng.integers(len(windows), size=(n_resamples, len(windows))):
        drawn = np.concatenate([windows[person] for person in people])
        draws.append(SCORES[score](labels[drawn], probabilities[drawn]))
    defined = np.array(draws)[~np.isnan(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


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


__all__ = ["SCORES", "EEGMetric", "bootstrap_interval", "classification_scores", "compute_metrics", "scores_by_person"]
