"""
Scores where a window has several labels at once, or numbers to predict; metrics.py has those of classes and chooses.

Each score is also there for many draws of people at once: `weights [draws, windows]` say how often a window counts.
"""

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, mean_absolute_error, mean_squared_error, r2_score


def multi_label_scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """
    `macro_auroc` and `macro_auc_pr`, means over the labels that some windows have and others do not (nan if there are
    none); `macro_f1`, `micro_f1` and `label_accuracy` (the share of right answers) of the labels at or above 0.5.

    Args:
        labels: 0 or 1, `[windows, labels]`.
        probabilities: `[windows, labels]`.

    Raises:
        ValueError: for other shapes or labels, or predictions that are not finite.
    """
    labels, probabilities = _checked(labels, probabilities)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"Several labels at once must be 0 or 1, but there are {np.setdiff1d(labels, (0, 1))[:5]}.")
    decisions = probabilities >= 0.5
    mixed = np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0))
    precision = [average_precision_score(labels[:, index], probabilities[:, index]) for index in mixed]
    return {
        "macro_auroc": float(macro_auroc(labels, probabilities, np.ones((1, len(labels))))[0]),
        "macro_auc_pr": float(np.mean(precision)) if len(mixed) else float("nan"),
        "macro_f1": float(f1_score(labels, decisions, average="macro", zero_division=0)),
        "micro_f1": float(f1_score(labels, decisions, average="micro", zero_division=0)),
        "label_accuracy": float((decisions == labels).mean()),
    }


def regression_scores(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """
    `pearson_r`, `r2` (1 - squared error / variance), `rmse` and `mae` in the unit of the labels; of several numbers
    the means. Correlation and `r2` are nan where all labels are the same, correlation also where all predictions are.

    Args:
        labels, predictions: `[windows]` or `[windows, numbers]`.

    Raises:
        ValueError: for other shapes, or numbers that are not finite.
    """
    labels, predictions = _checked(labels, predictions)
    varies = (labels != labels[0]).any(axis=0)
    r2 = r2_score(labels, predictions, multioutput="raw_values") if len(labels) > 1 else np.full(len(varies), np.nan)
    errors = mean_squared_error(labels, predictions, multioutput="raw_values")
    return {
        "pearson_r": float(mean_correlation(labels, predictions, np.ones((1, len(labels))))[0]),
        "r2": float(np.where(varies, r2, np.nan).mean()),
        "rmse": float(np.sqrt(errors).mean()),
        "mae": float(mean_absolute_error(labels, predictions)),
    }


def macro_auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """
    Mean area under the ROC curves of the labels that, in a draw, some windows have and others do not: `[draws]`, nan
    where there are none. Equal scores count half, as in scikit-learn.
    """
    areas = np.full((labels.shape[1], len(weights)), np.nan)
    for index in range(labels.shape[1]):
        order = np.argsort(scores[:, index], kind="stable")
        ranked = scores[order, index]
        begins = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # of equal scores
        with_label = np.add.reduceat(weights[:, order] * labels[order, index], begins, axis=1)
        without = np.add.reduceat(weights[:, order] * (1 - labels[order, index]), begins, axis=1)
        below = np.cumsum(without, axis=1) - without / 2
        pairs = with_label.sum(axis=1) * without.sum(axis=1)
        np.divide((with_label * below).sum(axis=1), pairs, out=areas[index], where=pairs > 0)
    return _mean_of_known(areas)


def mean_correlation(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean Pearson correlation over the numbers, `[draws]`; nan where labels or predictions are all the same."""
    total = weights.sum(axis=1, keepdims=True)
    x, y = labels - labels.mean(axis=0), predictions - predictions.mean(axis=0)  # against rounding
    mean_x, mean_y = weights @ x / total, weights @ y / total
    variance_x, variance_y = weights @ x**2 / total - mean_x**2, weights @ y**2 / total - mean_y**2
    spread = np.sqrt(np.maximum(variance_x, 0) * np.maximum(variance_y, 0))
    known = spread > 1e-12 * (np.abs(x).max(axis=0) * np.abs(y).max(axis=0) + 1e-300)
    covariance = weights @ (x * y) / total - mean_x * mean_y
    return _mean_of_known(np.divide(covariance, spread, out=np.full_like(spread, np.nan), where=known).T)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not nan; nan where nothing is."""
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def over_draws(
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    labels: np.ndarray,
    predictions: np.ndarray,
    person: np.ndarray,
    times: np.ndarray,
) -> np.ndarray:
    """
    A score for each draw of people, `[draws]`, a part of the draws at a time to save memory.

    Args:
        score: [`macro_auroc`] or [`mean_correlation`].
        labels, predictions: `[windows, names]`.
        person: number of each window's person, `[windows]`.
        times: how often each person is drawn, `[draws, people]`.
    """
    parts = np.array_split(times, max(1, times.shape[0] * len(person) // 2_000_000))
    return np.concatenate([score(labels, predictions, part[:, person].astype(float)) for part in parts])


def scores_by_name(scores: Callable, names: list[str], labels: np.ndarray, predictions: np.ndarray) -> Mapping:
    """Name of a label or number -> its own scores."""
    return {name: scores(labels[:, [k]], predictions[:, [k]]) for k, name in enumerate(names)}


def _checked(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as `[windows, names]` in double precision."""
    labels, predictions = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if predictions.ndim == 1:
        predictions = predictions[:, None]
    if labels.ndim == 1 and predictions.shape[1:] == (1,):
        labels = labels[:, None]
    if predictions.ndim != 2 or labels.shape != predictions.shape or not predictions.size:
        raise ValueError(
            f"Expected labels and predictions [windows, names] of one shape, but got {labels.shape} and "
            f"{predictions.shape}."
        )
    for name, values in (("predictions", predictions), ("labels", labels)):
        if not np.isfinite(values).all():
            rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
            raise ValueError(f"{len(rows)} of {len(values)} {name} are not finite, the first in row {rows[0]}.")
    return labels, predictions


__all__ = [
    "macro_auroc",
    "mean_correlation",
    "multi_label_scores",
    "over_draws",
    "regression_scores",
    "scores_by_name",
]
