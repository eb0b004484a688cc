"""Linear fits on frozen features for targets of every kind: one class, several labels at once, numbers."""

from collections.abc import Callable

import numpy as np
from datasets import Dataset
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline

from ..checkpoints.recorder import record_head_fit
from ..data.targets import NUMBERS, ONE_CLASS, SEVERAL, Targets
from ..modeling_neuript import NeurIPTForSequenceClassification
from .linear_probe import NO_FOLDS, fit_logistic, fit_standardised, pooled_features, start_head


class LabelwiseLogistic(ClassifierMixin, BaseEstimator):
    """
    A logistic regression for each of several labels. A label that all windows have, or none, gets no weights and the
    logarithm of its odds, with half a window added on both sides.

    Args:
        C: as in scikit-learn, the inverse of the penalty.
    """

    def __init__(self, C: float = 1.0):
        self.C = C

    def fit(self, features: np.ndarray, labels: np.ndarray) -> "LabelwiseLogistic":
        """`features [windows, features]`, `labels [windows, labels]` of 0 and 1."""
        self.classes_ = np.arange(labels.shape[1])
        self.coef_, self.intercept_ = np.zeros((labels.shape[1], features.shape[1])), np.zeros(labels.shape[1])
        for index, column in enumerate(labels.T):
            if len(np.unique(column)) == 1:
                self.intercept_[index] = np.log((column.sum() + 0.5) / (len(column) - column.sum() + 0.5))
                continue
            fit = LogisticRegression(C=self.C, max_iter=5000).fit(features, column)
            self.coef_[index], self.intercept_[index] = fit.coef_[0], fit.intercept_[0]
        return self

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """Logits, `[windows, labels]`."""
        return features @ self.coef_.T + self.intercept_

    def predict(self, features: np.ndarray) -> np.ndarray:
        """0 or 1, `[windows, labels]`."""
        return (self.decision_function(features) >= 0).astype(int)


def fit_labels(
    features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, seed: int = 0, penalty: float | None = None
) -> Pipeline:
    """
    Standardised logistic regression for each label; `labels [windows, labels]` are 0 or 1. The penalty is the one with
    the least cross entropy. Arguments and errors are otherwise those of [`fit_regression`].
    """

    def cross_entropy(fit: LabelwiseLogistic, features: np.ndarray, labels: np.ndarray) -> float:
        logits = fit.decision_function(features)
        return (np.logaddexp(0, logits) - labels * logits).mean()

    def regression(penalty: float) -> LabelwiseLogistic:
        return LabelwiseLogistic(C=1 / (penalty * features.shape[1]))

    return _fit(regression, cross_entropy, features, labels, subjects, seed, penalty)


def fit_regression(
    features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, seed: int = 0, penalty: float | None = None
) -> Pipeline:
    """
    Standardised ridge regression.

    Args:
        features: `[windows, features]`.
        labels: numbers to predict, `[windows]` or `[windows, numbers]`.
        subjects: person of each window.
        seed: of the folds.
        penalty: weight of the squared coefficients, as a multiple of the number of features; default: the one of
            `PENALTIES` with the least squared error by folds over these people, each number in units of its standard
            deviation.

    Raises:
        ValueError: for fewer than two people.
    """
    spread = labels.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)

    def squared_error(fit: Ridge, features: np.ndarray, labels: np.ndarray) -> float:
        return (((fit.predict(features) - labels) / spread) ** 2).mean()

    def regression(penalty: float) -> Ridge:
        return Ridge(alpha=penalty * features.shape[1])

    return _fit(regression, squared_error, features, labels, subjects, seed, penalty)


def fit_targets(features: np.ndarray, train: Dataset, seed: int = 0, penalty: float | None = None) -> Pipeline:
    """
    [`fit_logistic`], [`fit_labels`] or [`fit_regression`], by what the windows are labelled with.

    Args:
        features: `[windows, features]`.
        train: the windows, with `labels` and, where the penalty has to be chosen, `subject`.
        seed, penalty: as in [`fit_regression`].
    """
    subjects = np.asarray(train["subject"]) if "subject" in train.column_names else np.zeros(len(train))
    targets = Targets.of(train)
    fit = {ONE_CLASS: fit_logistic, SEVERAL: fit_labels, NUMBERS: fit_regression}[targets.problem_type]
    return fit(features, targets.array(train), subjects, seed, penalty)


def start_from_fit(
    model: NeurIPTForSequenceClassification, train: Dataset, seed: int = 0, penalty: float | None = None
) -> Pipeline:
    """
    Starts the head of a model from [`fit_targets`] on frozen features, before it is fine-tuned on the same windows, or
    instead. Their people join the model's training record.

    Args:
        model: with a head for the targets; what it predicts afterwards is what the fit predicts.
        train, seed, penalty: as in [`fit_targets`].

    Returns:
        The fit.
    """
    fit = fit_targets(pooled_features(model, train), train, seed, penalty)
    record = model.training_record
    start_head(model, fit)
    record_head_fit(model, train, record, seed)
    return fit


def _fit(
    regression: Callable[[float], BaseEstimator],
    loss: Callable[[BaseEstimator, np.ndarray, np.ndarray], float],
    features: np.ndarray,
    labels: np.ndarray,
    subjects: np.ndarray,
    seed: int,
    penalty: float | None,
) -> Pipeline:
    """The regression with the given penalty, or with the one of least loss on people left out."""
    folds = []
    if penalty is None:
        if (people := len(set(subjects))) < 2:
            raise ValueError(f"A fit needs at least two people, but has {people}. {NO_FOLDS}")
        splitter = GroupKFold(min(5, people), shuffle=True, random_state=seed)
        folds = list(splitter.split(features, groups=subjects))
    return fit_standardised(regression, features, labels, penalty, folds, scoring=lambda *args: -loss(*args))


__all__ = ["LabelwiseLogistic", "fit_labels", "fit_regression", "fit_targets", "start_from_fit"]
