"""Nearest-prototype classes: a classifier from a handful of labelled windows, on frozen features."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class PrototypeClassifier(ClassifierMixin, BaseEstimator):
    """
    A class is the mean of its labelled windows, and a window belongs to the class whose mean is nearest (Euclidean).
    Nothing is tuned and features keep their scale, so that one window of each class is enough to begin with.

    The score of a class is `(|x|^2 - |x - mean|^2) / 2`, which is linear in the features: `x @ coef_.T + intercept_`.
    Scores are no probabilities.

    Args:
        centred: whether each person's mean was taken off the features. It is only noted, so that the pipeline can
            refuse the classifier for features of the other kind.

    After `fit` there are `classes_`, `prototypes_ [classes, features]` and `counts_`, the windows of each class.
    """

    def __init__(self, centred: bool = False):
        self.centred = centred

    def fit(self, X: np.ndarray, y: np.ndarray) -> "PrototypeClassifier":
        """
        Args:
            X: features, `[windows, features]`.
            y: class of each window.

        Raises:
            ValueError: for fewer than two classes.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, index, self.counts_ = np.unique(y, return_inverse=True, return_counts=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Prototypes need at least two classes, but there is one class: {self.classes_[0]}.")
        self.prototypes_ = np.stack([X[index == number].mean(axis=0) for number in range(len(self.classes_))])
        self.coef_, self.intercept_ = self.prototypes_, -(self.prototypes_**2).sum(axis=1) / 2
        if len(self.classes_) == 2:  # as of other linear classifiers of scikit-learn
            self.coef_, self.intercept_ = np.diff(self.coef_, axis=0), np.diff(self.intercept_)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Scores of the classes, `[windows, classes]`; of two classes that of the second, `[windows]`."""
        check_is_fitted(self)
        scores = validate_data(self, X, reset=False, dtype=np.float64) @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class of each window, `[windows]`."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]


def fit_prototypes(features: np.ndarray, labels: np.ndarray, centred: bool = False) -> PrototypeClassifier:
    """A [`PrototypeClassifier`] of labelled windows, `features [windows, features]`; say so if they are centred."""
    return PrototypeClassifier(centred).fit(features, labels)


__all__ = ["PrototypeClassifier", "fit_prototypes"]
