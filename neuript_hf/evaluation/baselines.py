"""Classical methods on the same windows as the model: the mark it has to beat."""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from mne.filter import filter_data
from scipy.signal import welch
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from transformers.utils import logging

from ..compact_embedding import window_numbers
from ..configuration_neuript import NeurIPTConfig
from ..connectivity import connectivity
from ..data.collator import AXES
from ..data.targets import ONE_CLASS, Targets
from ..data.windows import channel_reports
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..token_masks import TokenMasks
from .eegnet import EEGNetClassifier
from .linear_probe import class_scores
from .metrics import scores_of
from .target_fits import fit_targets


logger = logging.get_logger(__name__)

# Hertz; the signals end at 30 Hz.
BANDS = ((1, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 15), (15, 20), (20, 25), (25, 30))
# Correlations of narrow bands are uncertain in a window of seconds, so these are wider.
CONNECTIVITY_BANDS = ((1, 4), (4, 8), (8, 10), (10, 13), (13, 20), (20, 30))


def on_common_channels(*parts: Dataset) -> tuple[list[Dataset], list[str]]:
    """
    The same windows with the channels that all recordings have, in the order of the first recording, and the names of
    the channels that are left out.

    Args:
        parts: windows of [`load_recordings`], e.g. those to fit on and those to score.

    Raises:
        ValueError: where recordings with different channels have none in common, or the first window of a recording,
            which holds the names, is not among the windows.
    """
    names = {}
    for part in parts:
        if "report" in part.column_names:
            reports = channel_reports(part).items()
            names |= {recording: [row["name"] for row in report["channels"]] for recording, report in reports}
    if len(set(map(tuple, names.values()))) < 2:
        return list(parts), []
    if unknown := sorted({recording for part in parts for recording in part["recording"]} - set(names)):
        raise ValueError(
            f"The recordings have different channels, and the names of those of {len(unknown)} recordings, e.g. "
            f"{unknown[0]}, are not known, since their first windows are missing. Give all windows of a recording, or "
            "a montage that every recording has."
        )
    first = next(iter(names.values()))
    common = [name for name in first if all(name in channels for channels in names.values())]
    if not common:
        raise ValueError(
            "A classical baseline needs channels that all recordings have, but there are none. Give a montage that "
            "every recording has."
        )
    places = {recording: [channels.index(name) for name in common] for recording, channels in names.items()}

    def select(window: dict) -> dict:
        columns = (name for name, axes in AXES.items() if axes.startswith("C") and name in window)
        return {name: [window[name][place] for place in places[window["recording"]]] for name in columns}

    left_out = sorted({name for channels in names.values() for name in channels} - set(common))
    return [part.map(select, desc="common channels") for part in parts], left_out


def signals_in_microvolt(dataset: Dataset, extractor: NeurIPTFeatureExtractor) -> np.ndarray:
    """
    The windows before companding, `[windows, channels, samples]`.

    Raises:
        ValueError: for windows with different numbers of channels or samples, which a classical method cannot take
            together; see [`on_common_channels`].
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


def connectivity_by_lobe(
    dataset: Dataset, extractor: NeurIPTFeatureExtractor, bands: Sequence[tuple[int, int]] = CONNECTIVITY_BANDS
) -> np.ndarray:
    """
    Log power by lobe and Fisher z of the correlations between channels within and between lobes, in each band,
    `[windows, (lobes + pairs of lobes) * bands]`: 120 numbers for five lobes and six bands. Masked channels do not
    count.
    """
    parts = connectivity(
        torch.from_numpy(signals_in_microvolt(dataset, extractor)),
        torch.tensor(dataset["lobe_mask"]),
        bands,
        torch.tensor(dataset["channel_mask"]),
        torch.tensor(dataset["attention_mask"]),
    )
    return torch.cat([parts.log_power.flatten(1), parts.correlation.flatten(1)], dim=1).numpy()


def observed_numbers(dataset: Dataset, config: NeurIPTConfig) -> np.ndarray:
    """
    The numbers that a model's compact embedding estimates, from the samples themselves and without the model,
    `[windows, embedding_size]`: what its training has to be worth more than.
    """
    values, positions, lobes, channels, samples = (
        torch.tensor(np.stack(dataset[name]))
        for name in ("input_values", "electrode_positions", "lobe_mask", "channel_mask", "attention_mask")
    )
    masks = TokenMasks(samples.bool(), channels.bool(), None)
    return window_numbers(config, values.float(), masks, lobes.bool(), positions).values.numpy()


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
    training people. Where recordings have different channels, the method gets those that all have, see
    [`on_common_channels`]; a warning and the entry `channels_left_out` name the others.

    Raises:
        ValueError: as [`make_baseline`], and for `eegnet` where windows do not have one class each.
    """
    if name == "none":
        return None
    targets = Targets.of(train)
    if name == "eegnet" and targets.problem_type != ONE_CLASS:
        raise ValueError(f"The baseline eegnet is for one class for each window, not for {targets.problem_type}.")
    method = make_baseline(name, extractor.sampling_rate, frequencies)
    (train, unseen), left_out = on_common_channels(train, unseen)
    if left_out:
        logger.warning(f"The baseline {name} leaves out {', '.join(left_out)}, which not every recording has.")
    fitted, scored = signals_in_microvolt(train, extractor), signals_in_microvolt(unseen, extractor)
    if targets.problem_type == ONE_CLASS:
        method.fit(fitted, targets.array(train))
    else:
        features = method[:-2]  # without standardisation and logistic regression
        fitted, scored = features.fit_transform(fitted), features.transform(scored)
        method = fit_targets(fitted, train)
    scores = scores_of(class_scores(method, scored), unseen)
    return scores | {"channels_left_out": left_out} if left_out else scores


__all__ = [
    "band_power",
    "band_power_baseline",
    "baseline_scores",
    "connectivity_by_lobe",
    "filter_bank",
    "make_baseline",
    "observed_numbers",
    "on_common_channels",
    "signals_in_microvolt",
    "tangent_space_baseline",
]
