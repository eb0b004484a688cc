"""Classical methods on the same windows as the model: the mark it has to beat."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from mne.filter import filter_data
from scipy.signal import welch
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ..data.targets import ONE_CLASS, Targets
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from .eegnet import EEGNetClassifier
from .linear_probe import class_scores
from .metrics import scores_of
from .target_fits import fit_targets


# Hertz; the signals end at 30 Hz.
BANDS = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0))


def signals_in_microvolt(dataset: Dataset, extractor: NeurIPTFeatureExtractor) -> np.ndarray:
    """
    The windows before companding, `[windows, channels, samples]`.

    Raises:
        ValueError: for windows with different channels or lengths, which a classical method cannot take together.
    """
    windows = [np.asarray(values, dtype=np.float32) for values in dataset["input_values"]]
    shapes = {window.shape for window in windows}
    if len(shapes) > 1:
        raise ValueError(f"A classical baseline needs windows of one shape, but there are {sorted(shapes)}.")
    return extractor.invert(np.stack(windows)).astype(np.float64)


def band_power(signals: np.ndarray, sampling_rate: float, bands: Sequence[tuple[float, float]] = BANDS) -> np.ndarray:
    """
    Log power of each channel in each band, `[windows, channels * bands]`, from `signals [windows, channels, samples]`.
    A masked channel is all zeros: power is at least 1e-6 square microvolt, so that its logarithm is finite.
    """
    length = min(signals.shape[-1], int(2 * sampling_rate))
    frequencies, power = welch(signals, fs=sampling_rate, nperseg=length)
    width = frequencies[1] - frequencies[0]
    features = [power[..., (frequencies >= low) & (frequencies < high)].sum(axis=-1) * width for low, high in bands]
    return np.log(np.maximum(np.stack(features, axis=-1), 1e-6)).reshape(len(signals), -1)


def band_power_baseline(sampling_rate: float) -> Pipeline:
    """Log band power, standardised, then logistic regression with balanced classes; nothing is tuned."""
    return make_pipeline(
        FunctionTransformer(band_power, kw_args={"sampling_rate": sampling_rate}),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=5000),
    )


def filter_bank(signals: np.ndarray, sampling_rate: float, frequencies: Sequence[float]) -> np.ndarray:
    """The signals filtered around each frequency (plus and minus 1 Hz), stacked as channels."""
    copies = [
        filter_data(signals, sampling_rate, frequency - 1, frequency + 1, method="iir", verbose="ERROR")
        for frequency in frequencies
    ]
    return np.concatenate(copies, axis=1)


def tangent_space_baseline(sampling_rate: float, frequencies: Sequence[float] = ()) -> Pipeline:
    """
    Covariance (OAS) in tangent space, then logistic regression with balanced classes; needs the extra `baselines`.

    Args:
        sampling_rate: of the signals, in hertz.
        frequencies: for steady-state responses, in hertz: the covariance is that of the [`filter_bank`] around them.
    """
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace

    bank = [FunctionTransformer(filter_bank, kw_args={"sampling_rate": sampling_rate, "frequencies": frequencies})]
    return make_pipeline(
        *(bank if frequencies else []),
        Covariances("oas"),
        TangentSpace(),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=5000),
    )


def make_baseline(name: str, sampling_rate: float, frequencies: Sequence[float] = ()) -> ClassifierMixin | Pipeline:
    """
    A classical method by name.

    Args:
        name: `band_power`, `tangent_space` or `eegnet`.
        sampling_rate: of the signals, in hertz.
        frequencies: see [`tangent_space_baseline`].

    Raises:
        ValueError: for another name.
    """
    if name == "band_power":
        return band_power_baseline(sampling_rate)
    if name == "tangent_space":
        return tangent_space_baseline(sampling_rate, frequencies)
    if name == "eegnet":
        return EEGNetClassifier(sampling_rate)
    raise ValueError(f"baseline must be band_power, tangent_space, eegnet or none, but is {name!r}.")


def baseline_scores(
    name: str, train: Dataset, unseen: Dataset, extractor: NeurIPTFeatureExtractor, frequencies: Sequence[float] = ()
) -> dict | None:
    """
    [`scores_of`] a classical method that is fitted to the windows `train` and scored on `unseen`; `None` for the name
    `none`. The other arguments are those of [`make_baseline`]. Several labels at once and numbers have the same
    features and, in place of the logistic regression, [`fit_targets`], whose penalty is chosen by folds over the
    training people.

    Raises:
        ValueError: as [`make_baseline`], and for `eegnet` where windows do not have one class each.
    """
    if name == "none":
        return None
    targets = Targets.of(train)
    if name == "eegnet" and targets.problem_type != ONE_CLASS:
        raise ValueError(f"The baseline eegnet is for one class for each window, not for {targets.problem_type}.")
    method = make_baseline(name, extractor.sampling_rate, frequencies)
    fitted, scored = signals_in_microvolt(train, extractor), signals_in_microvolt(unseen, extractor)
    if targets.problem_type == ONE_CLASS:
        method.fit(fitted, targets.array(train))
    else:
        features = method[:-2]  # without standardisation and logistic regression
        fitted, scored = features.fit_transform(fitted), features.transform(scored)
        method = fit_targets(fitted, train)
    return scores_of(class_scores(method, scored), unseen)


__all__ = [
    "band_power",
    "band_power_baseline",
    "baseline_scores",
    "filter_bank",
    "make_baseline",
    "signals_in_microvolt",
    "tangent_space_baseline",
]
