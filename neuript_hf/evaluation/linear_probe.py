"""Linear classifiers on frozen features, and a classifier head that starts from one."""

from collections.abc import Callable

import numpy as np
import torch
from datasets import Dataset
from sklearn.base import BaseEstimator, ClassifierMixin, is_regressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ..modeling_neuript import NeurIPTForSequenceClassification, NeurIPTPreTrainedModel
from .forward import outputs_of


# Candidates, the strongest first: it wins where several are equally good.
PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001)
NO_FOLDS = (
    "The penalty is chosen by folds over people. Train on more people, or do without the choice: penalty=1.0, "
    "linear_probe.py --penalty 1, finetune.py --head_start false."
)


def pooled_features(
    model: NeurIPTPreTrainedModel, dataset: Dataset, batch_size: int = 16, output: str = "embedding"
) -> np.ndarray:
    """
    One vector for each window from the frozen encoder, `[windows, features]`: what a classifier head reads.

    Args:
        model: the encoder, or a model with one.
        dataset: the windows.
        batch_size: windows that go through the model together.
        output: `"embedding"`, or `"pooler_output"`, which models without an embedding give in any case.

    Raises:
        ValueError: if the checkpoint had no weights for a part of the encoder.
    """
    model.base_model.refuse_untrained()
    batches = outputs_of(model.base_model, dataset, batch_size, "frozen features")
    return np.concatenate([found.get(output, found.pooler_output).float().cpu().numpy() for found in batches])


def centred(features: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """
    The features less the mean of each person's own windows, `[windows, features]`. No labels are needed, but windows
    of all classes of each person are: where a person has one class, or far more windows of it, the class goes with the
    mean.
    """
    _, person, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), features.shape[1]))
    np.add.at(sums, person, features)
    return features - (sums / counts[:, None])[person]


def people_folds(
    labels: np.ndarray, subjects: np.ndarray, count: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    Folds that keep each person's windows together, with classes as balanced as the people allow.

    Args:
        labels: class of each window.
        subjects: person of each window.
        count: number of folds; with fewer people, one for each person.
        seed: of the draw.

    Returns:
        For each fold the numbers of the windows to fit on and to check on; each window is checked once.

    Raises:
        ValueError: for fewer than two people.
    """
    people = len(set(subjects))
    if people < 2:
        raise ValueError(f"Folds over people need at least two people, but there is {people}.")
    folds = StratifiedGroupKFold(n_splits=min(count, people), shuffle=True, random_state=seed)
    return list(folds.split(np.zeros(len(labels)), labels, subjects))


def fit_logistic(
    features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, seed: int = 0, penalty: float | None = None
) -> Pipeline:
    """
    Standardised logistic regression with balanced classes.

    Args:
        features: `[windows, features]`.
        labels: class of each window.
        subjects: person of each window.
        seed: of the folds.
        penalty: weight of the squared coefficients relative to the sum of the windows' losses, as a multiple of the
            number of features, so that it means the same for models of any size; default: the best of `PENALTIES`
            by folds over these people, as many as five as long as some have every class on both sides.

    Raises:
        ValueError: for fewer than two classes, or where the penalty has to be chosen and there are fewer than two
            people or no fold over people has every class on both sides.
    """

    def regression(penalty: float) -> LogisticRegression:
        strength = penalty * features.shape[1]
        return LogisticRegression(C=1 / strength, class_weight="balanced", max_iter=5000)

    return _fit(regression, features, labels, subjects, seed, penalty)


def fit_ridge(
    features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, seed: int = 0, penalty: float | None = None
) -> Pipeline:
    """
    Standardised ridge regression on the classes, balanced. It is solved in closed form, so it is faster than
    [`fit_logistic`], whose arguments and errors it shares. Its scores are not probabilities, see [`class_scores`].
    """

    def ridge(penalty: float) -> RidgeClassifier:
        return RidgeClassifier(alpha=penalty * features.shape[1], class_weight="balanced")

    return _fit(ridge, features, labels, subjects, seed, penalty)


def fit_svm(
    features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, seed: int = 0, penalty: float | None = None
) -> Pipeline:
    """
    Standardised support vector machine with balanced classes. The paper's table 8 does not name a kernel; this one has
    radial basis functions with a gamma of one over the number of features, so the penalty is not multiplied by it.
    Arguments and errors are otherwise those of [`fit_logistic`].
    """

    def machine(penalty: float) -> SVC:
        return SVC(C=1 / penalty, gamma=1 / features.shape[1], class_weight="balanced", break_ties=True)

    return _fit(machine, features, labels, subjects, seed, penalty)


FITS = {"logistic": fit_logistic, "ridge": fit_ridge, "svm": fit_svm}


def _fit(
    classifier: Callable[[float], ClassifierMixin],
    features: np.ndarray,
    labels: np.ndarray,
    subjects: np.ndarray,
    seed: int,
    penalty: float | None,
) -> Pipeline:
    """The classifier with the given penalty, or with the one that is best on people left out."""
    people, classes = len(set(subjects)), len(set(labels))
    if classes < 2 or (people < 2 and penalty is None):
        raise ValueError(
            f"A fit needs at least two people and two classes, but has {people} and {classes}. {NO_FOLDS}"
        )
    folds = _scorable_folds(labels, subjects, seed) if penalty is None else []
    return fit_standardised(classifier, features, labels, penalty, folds, "balanced_accuracy")


def fit_standardised(
    estimator: Callable[[float], BaseEstimator],
    features: np.ndarray,
    labels: np.ndarray,
    penalty: float | None,
    folds: list[tuple[np.ndarray, np.ndarray]],
    scoring: str | Callable[[BaseEstimator, np.ndarray, np.ndarray], float],
) -> Pipeline:
    """
    A linear fit to all windows, after standardisation.

    Args:
        estimator: penalty -> the estimator.
        features: `[windows, features]`.
        labels: `[windows]` or `[windows, labels]`.
        penalty: `None` = the one of `PENALTIES` with the best mean score over the folds.
        folds: the windows to fit on and to check on; only read without a penalty.
        scoring: as in scikit-learn; higher is better.
    """
    scaler = StandardScaler()
    scaled = scaler.fit_transform(np.asarray(features, dtype=np.float64))
    if penalty is None:
        turned = fewer_columns(scaled)
        scores = [
            cross_val_score(estimator(each), turned, labels, cv=folds, scoring=scoring, error_score="raise").mean()
            for each in PENALTIES
        ]
        penalty = PENALTIES[int(np.argmax(scores))]
    return make_pipeline(scaler, estimator(penalty).fit(scaled, labels))


def _scorable_folds(labels: np.ndarray, subjects: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Those of the folds over people that have every class on both sides; where none has, of fewer folds."""
    classes = set(labels)
    for count in (5, 4, 3, 2):
        folds = people_folds(labels, subjects, count, seed)
        folds = [(fit, check) for fit, check in folds if set(labels[fit]) == set(labels[check]) == classes]
        if folds:
            return folds
    alone = [str(name) for name in sorted(classes) if len(set(subjects[labels == name])) == 1]
    raise ValueError(
        "No fold over people has every class on both sides: each person has only some of the classes"
        + (f", and there is a single person of class {', '.join(alone)}. " if alone else ". ")
        + NO_FOLDS
    )


def fewer_columns(features: np.ndarray) -> np.ndarray:
    """
    At most as many columns as windows, with the same inner products between windows. Classifiers with a squared
    penalty, or that depend on distances alone, make the same decisions on them, several times as fast.
    """
    windows, columns = features.shape
    return np.linalg.qr(features.T, mode="r").T if columns > windows else features


def class_scores(fit: ClassifierMixin | Pipeline, features: np.ndarray) -> np.ndarray:
    """
    Scores of the classes from a fitted classifier, `[windows, classes]`, higher for likelier classes; for two classes
    the pair (-z/2, z/2). Softmax turns the scores of a logistic regression into its probabilities. Of a regression
    the numbers, `[windows, numbers]`.
    """
    if is_regressor(fit):
        return fit.predict(features).reshape(len(features), -1)
    if not hasattr(fit, "decision_function"):
        return fit.predict_log_proba(features)
    # finite even where the classifier is so certain that log probabilities are not
    decisions = fit.decision_function(features)
    return np.stack([-decisions / 2, decisions / 2], axis=1) if decisions.ndim == 1 else decisions


def start_head(model: NeurIPTForSequenceClassification, fit: Pipeline) -> None:
    """
    Writes a linear fit into the model's head, with the standardisation folded into its weights, so that the model
    predicts what the fit does. For two classes the logits are the pair (-z/2, z/2).

    Args:
        model: its head has as many labels as the fit.
        fit: of [`fit_logistic`] or of target_fits.py.
    """
    scaler, regression = fit[0], fit[-1]
    weight, bias = np.atleast_2d(regression.coef_), np.atleast_1d(regression.intercept_)
    if len(weight) == 1 and model.config.num_labels == 2:
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    if model.config.target_scale is not None:
        mean, scale = np.array(model.config.target_mean), np.array(model.config.target_scale)
        weight, bias = weight / scale[:, None], (bias - mean) / scale
    with torch.no_grad():
        model.classifier.weight.copy_(torch.as_tensor(weight))
        model.classifier.bias.copy_(torch.as_tensor(bias))


__all__ = [
    "FITS",
    "centred",
    "class_scores",
    "fewer_columns",
    "fit_logistic",
    "fit_ridge",
    "fit_standardised",
    "fit_svm",
    "people_folds",
    "pooled_features",
    "start_head",
]
