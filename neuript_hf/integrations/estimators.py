"""
NeurIPT as estimators of scikit-learn: windows to features, and windows to classes.

Windows are `mne.Epochs` or an array `[windows, channels, samples]`. They go through the feature extractor, the frozen
encoder and the fits of the rest of the package; only what scikit-learn expects of an estimator is made here.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import mne
import numpy as np
import torch
from datasets import ClassLabel, Dataset
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..channels import ChannelReport
from ..checkpoints.training_record import record_of
from ..data.people import is_named
from ..evaluation.baselines import BANDS, band_power, signals_in_microvolt
from ..evaluation.feature_names import feature_names
from ..evaluation.forward import outputs_of
from ..evaluation.linear_probe import FITS, centred, pooled_features
from ..evaluation.prototypes import fit_prototypes
from ..evaluation.target_fits import start_from_fit
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTModel, NeurIPTPreTrainedModel
from ..recordings import Recording, as_recording
from ..training.finetuning import FineTuningArguments, ModelArguments, make_classifier, make_trainer


OUTPUTS = ("embedding", "pooler_output")
METHODS = (*FITS, "prototypes", "fine-tuning")
WITH_PROBABILITIES = ("logistic", "fine-tuning")
# Without two people there are no folds to choose a penalty by; NO_FOLDS of linear_probe.py advises the same.
PENALTY = 1.0


class NeurIPTEmbedder(TransformerMixin, BaseEstimator):
    """
    Windows of EEG to the features of a frozen NeurIPT, `[windows, features]`.

    Windows are `mne.Epochs`, a list of them with one window each (as scikit-learn cuts folds out of epochs), or an
    array `[windows, channels, samples]` with `info`, or with `sampling_rate`, `channel_names` and `unit`. Nothing is
    learned from them: `fit` loads the weights, checks the windows and notes what becomes of their channels, and
    `transform` needs no `fit`.

    A pickle of an estimator whose model is a name does not hold the weights but their hash. They are loaded again when
    they are needed, and refused if they have changed. Weights that were given as a model are part of the pickle.

    Args:
        model: a checkpoint's folder or name on the Hub, or a model.
        feature_extractor: makes the windows; by default the checkpoint's. Needed for a model that has no name.
        info: of arrays, an `mne.Info`. Their numbers are volts then, if `unit` does not say otherwise.
        sampling_rate, channel_names, unit: of arrays without `info`, as in [`NeurIPTFeatureExtractor`].
        window_seconds: length of the windows; by default that of the feature extractor, which is that of the training.
            A sample more, as `mne.Epochs` have it, is left out.
        output: `"embedding"`, the compact embedding, or `"pooler_output"`, which a model without an embedding gives in
            any case.
        band_power: puts the log power of each channel in nine bands beside the model's features. All windows then need
            the channels of those in `fit`.
        centred: takes the mean of each person's own windows off their features. It needs no labels, but windows of all
            classes of each person, about as many of each: a class of which a person has most windows goes with the
            mean. What is centred says so in its name.
        batch_size: windows that go through the model together.
        device: where the model computes.

    Attributes:
        report_: what the feature extractor did with the channels of the windows in `fit`.
        channels_: their channels as the model sees them.

    Raises:
        ValueError: for windows of another length than `window_seconds`, windows that the feature extractor refuses or
            leaves out, channels other than in `fit` where `band_power` needs them, people that are not known where
            `centred` needs them, and weights that have changed.
    """

    # where metadata routing is on, people are asked for without set_transform_request
    __metadata_request__transform = {"subjects": True}
    __metadata_request__fit_transform = {"subjects": True}

    def __init__(
        self,
        model: str | os.PathLike | NeurIPTPreTrainedModel,
        *,
        feature_extractor: NeurIPTFeatureExtractor | None = None,
        info: mne.Info | None = None,
        sampling_rate: float | None = None,
        channel_names: Sequence[str] | None = None,
        unit: str | None = None,
        window_seconds: float | None = None,
        output: str = "embedding",
        band_power: bool = False,
        centred: bool = False,
        batch_size: int = 16,
        device: str = "cpu",
    ):
        self.model = model
        self.feature_extractor = feature_extractor
        self.info = info
        self.sampling_rate = sampling_rate
        self.channel_names = channel_names
        self.unit = unit
        self.window_seconds = window_seconds
        self.output = output
        self.band_power = band_power
        self.centred = centred
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Any = None) -> "NeurIPTEmbedder":
        """Loads the weights and notes what becomes of the windows' channels; `y` is not read."""
        self.fit_windows(X)
        return self

    def fit_transform(self, X: Any, y: Any = None, subjects: Sequence | None = None) -> np.ndarray:
        """[`fit`] and [`transform`], with the windows cut once."""
        return self.features(self.fit_windows(X), people_of(X, subjects))

    def fit_windows(self, X: Any) -> Dataset:
        """[`fit`], and the windows as models take them."""
        windows, self.report_ = self.windows(X)
        self.channels_ = channels_of(self.report_)
        return windows

    def transform(self, X: Any, subjects: Sequence | None = None) -> np.ndarray:
        """
        Args:
            X: windows.
            subjects: the person of each window; by default the column `subject` of `epochs.metadata`.

        Returns:
            features, float64 `[windows, features]`.
        """
        windows, report = self.windows(X)
        channels = channels_of(report)
        if self.band_power and channels != getattr(self, "channels_", channels):
            raise ValueError(
                f"band_power needs the channels of the windows in fit, {', '.join(self.channels_)}, but these windows "
                f"have {', '.join(channels)}. Pick the channels that all recordings have."
            )
        return self.features(windows, people_of(X, subjects))

    def windows(self, X: Any) -> tuple[Dataset, ChannelReport]:
        """The windows as models take them (docs/batch-contract.md), and what was done with their channels."""
        self._load()
        source = self._recording(X)
        seconds = self.window_seconds or self.feature_extractor_.window_seconds
        samples = source.segments[0].stop - source.segments[0].start
        if not -0.5 < samples - seconds * source.sampling_rate < 1.5:  # mne.Epochs end with the sample at tmax
            raise ValueError(
                f"Expected windows of {seconds:g} s, as the model was trained on, but they are of "
                f"{samples / source.sampling_rate:g} s. Cut windows of {seconds:g} s, e.g. with "
                f"epochs.crop(tmin, tmin + {seconds:g}), or give window_seconds={samples / source.sampling_rate:g} to "
                "use them as they are."
            )
        batch = self.feature_extractor_(source, window_seconds=seconds)
        if lost := sorted(set(range(len(source.segments))) - set(batch.kept.tolist())):
            raise ValueError(
                f"{len(lost)} windows lie in time that is marked as bad, e.g. number {lost[0]}, and each needs its "
                "features. Drop these epochs and their labels, or give a feature_extractor with "
                "reject_by_annotation=False."
            )
        return Dataset.from_dict({name: list(values) for name, values in batch.items()}), batch.report

    def features(self, windows: Dataset, people: np.ndarray | None = None) -> np.ndarray:
        """The features of windows as models take them; `people` are only read by `centred`."""
        self._load()
        if self.centred:
            refuse_to_centre(people, len(windows))
        features = pooled_features(self.model_, windows, self.batch_size, self.output).astype(np.float64)
        if self.band_power:
            signals = signals_in_microvolt(windows, self.feature_extractor_)
            power = band_power(signals, self.feature_extractor_.sampling_rate)
            features = np.concatenate([features, power], axis=1)
        return centred(features, people) if self.centred else features

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """
        Names such as `"power, frontal, 8-10 Hz"` of an embedding, `"scale3_frontal_12"` of a pooled output and
        `"band power, C3, 8-10 Hz"`, with `", centred"` behind where they are; `input_features` is not read.
        """
        self._load()
        names = feature_names(self.model_.config, self.output)
        if self.band_power:
            check_is_fitted(self, "channels_")
            names += [f"band power, {name}, {low}-{high} Hz" for name in self.channels_ for low, high in BANDS]
        return np.array([name + ", centred" * self.centred for name in names], dtype=object)

    @property
    def trained_on(self) -> list[str] | None:
        """The data sets that the weights were trained on, `None` if nobody knows: their people are not unseen."""
        self._load()
        record = self.model_.training_record
        return None if record is None or record.get("gaps") else record_of(record).dataset_names

    def _load(self) -> None:
        """The model and the feature extractor that the parameters name, unless they are loaded."""
        if self.output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, but is {self.output!r}.")
        given = (self.model, self.feature_extractor)
        known = getattr(self, "given_", None) == given  # by this estimator, or by the one that was pickled
        if not known or self.model_ is None:
            model, extractor = self._loaded()
            digest = digest_of(model)
            if known and digest != self.digest_:
                raise ValueError(
                    f"The weights of {self.model} are not those that this estimator was pickled with, so nothing that "
                    "was fitted to their features fits these. Restore them, or fit a new estimator."
                )
            self.given_, self.model_, self.digest_ = given, model, digest
            self.feature_extractor_ = self.feature_extractor_ if known else extractor
        self.model_.to(self.device)

    def _loaded(self) -> tuple[NeurIPTModel, NeurIPTFeatureExtractor]:
        if not isinstance(self.model, nn.Module):
            model = NeurIPTModel.from_pretrained(self.model)
            extractor = self.feature_extractor or NeurIPTFeatureExtractor.from_pretrained(self.model)
        elif self.feature_extractor is None:
            raise ValueError(
                "A model that is given as an object needs its feature_extractor. Give it too, or give the name of the "
                "checkpoint alone."
            )
        else:
            model, extractor = self.model.base_model, self.feature_extractor
        extractor.refuse_other_windows(model.config)
        return model, extractor

    def _recording(self, X: Any) -> Recording:
        if isinstance(X, list) and X and all(isinstance(epochs, mne.BaseEpochs) for epochs in X):
            X = mne.concatenate_epochs(X, verbose="ERROR")
        given = {"sampling_rate": self.sampling_rate, "channel_names": self.channel_names, "unit": self.unit}
        if not isinstance(X, mne.BaseEpochs):
            X = np.asarray(X) if isinstance(X, list) else X
            if getattr(X, "ndim", 0) != 3:
                what = f"an array {list(X.shape)}" if hasattr(X, "shape") else type(X).__name__
                raise ValueError(
                    f"Expected windows, mne.Epochs or an array [windows, channels, samples], but got {what}. Of a "
                    "mne.io.Raw, mne.make_fixed_length_epochs(raw, duration=4) makes windows."
                )
            if self.info is not None:
                X = mne.EpochsArray(X, self.info, proj=False, verbose="ERROR")
        return as_recording(X, **given)

    def __getstate__(self) -> dict:
        state = super().__getstate__()
        if isinstance(self.model, nn.Module) or "model_" not in state:
            return state
        return state | {"model_": None}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.requires_fit = False
        return tags


class NeurIPTClassifier(ClassifierMixin, BaseEstimator):
    """
    Windows of EEG to classes: a fit to the features of a frozen NeurIPT, or a NeurIPT that is trained for the classes.

    The arguments of [`NeurIPTEmbedder`] make the windows and the features. `fit`, `predict`, `score` and the others
    also take `subjects`, the person of each window; by default it is the column `subject` of `epochs.metadata`.

    Args:
        model: as in [`NeurIPTEmbedder`]. Fine-tuning needs a name.
        method: `"ridge"`, `"logistic"` or `"svm"`, a fit to standardised features (evaluation/linear_probe.py);
            `"prototypes"`, the class with the nearest mean, for a handful of labelled windows
            (evaluation/prototypes.py); or `"fine-tuning"`, all of the model trained with [`NeurIPTTrainer`], from a
            head that starts as a logistic regression.
        penalty: of the fit, or of the regression before fine-tuning, as in `fit_logistic`; by default the best by
            folds over the people in `fit`, and 1 where there is one, or nobody is known.
        training: for fine-tuning, fields of `transformers.TrainingArguments` in place of those of our recipe
            (`FineTuningArguments`).
        random_state: of the folds and of fine-tuning.
        feature_extractor, info, sampling_rate, channel_names, unit, window_seconds, output, band_power, centred,
            batch_size, device: as in [`NeurIPTEmbedder`].

    Attributes:
        classes_: the classes.
        embedder_: makes the windows and the features; its `report_` says what was done with channels.
        fit_: the fit to the features; not after fine-tuning.
        model_: the trained model; only after fine-tuning. A pickle holds its weights.

    Raises:
        ValueError: as [`NeurIPTEmbedder`]; for an unknown method; for fewer than two classes; where the penalty has to
            be chosen and no fold over people has every class on both sides; where nobody has two classes, which
            centring would take away; and for fine-tuning with an output, band power or centring, which it does not
            use.
    """

    __metadata_request__fit = {"subjects": True}
    __metadata_request__predict = {"subjects": True}
    __metadata_request__predict_proba = {"subjects": True}
    __metadata_request__decision_function = {"subjects": True}
    __metadata_request__score = {"subjects": True}

    def __init__(
        self,
        model: str | os.PathLike | NeurIPTPreTrainedModel,
        *,
        method: str = "ridge",
        penalty: float | None = None,
        training: Mapping[str, Any] | None = None,
        random_state: int = 0,
        feature_extractor: NeurIPTFeatureExtractor | None = None,
        info: mne.Info | None = None,
        sampling_rate: float | None = None,
        channel_names: Sequence[str] | None = None,
        unit: str | None = None,
        window_seconds: float | None = None,
        output: str = "embedding",
        band_power: bool = False,
        centred: bool = False,
        batch_size: int = 16,
        device: str = "cpu",
    ):
        self.model = model
        self.method = method
        self.penalty = penalty
        self.training = training
        self.random_state = random_state
        self.feature_extractor = feature_extractor
        self.info = info
        self.sampling_rate = sampling_rate
        self.channel_names = channel_names
        self.unit = unit
        self.window_seconds = window_seconds
        self.output = output
        self.band_power = band_power
        self.centred = centred
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Sequence, subjects: Sequence | None = None) -> "NeurIPTClassifier":
        """
        Args:
            X: windows, as in [`NeurIPTEmbedder`].
            y: class of each window.
            subjects: person of each window.
        """
        self._check_method()
        y, people = column_or_1d(y), people_of(X, subjects)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"A classifier needs at least two classes, but there is one class: {classes[0]}.")
        check_consistent_length(y, people)
        if self.centred and people is not None:
            refuse_one_class_each(people, labels)
        shared = NeurIPTEmbedder(self.model).get_params()
        self.embedder_ = NeurIPTEmbedder(**{name: getattr(self, name) for name in shared})
        windows = self.embedder_.fit_windows(X)
        check_consistent_length(windows, y)
        folds = people is not None and len(set(people)) > 1
        penalty = self.penalty if folds or self.penalty is not None else PENALTY
        if self.method == "fine-tuning":
            self._fine_tune(windows, classes, labels, people, penalty)
        else:
            features = self.embedder_.features(windows, people)
            if self.method == "prototypes":
                self.fit_ = fit_prototypes(features, y, self.centred)
            else:  # with a penalty given, a fit reads no people
                people = np.zeros(len(y)) if people is None else people
                self.fit_ = FITS[self.method](features, y, people, self.random_state, penalty)
        self.classes_ = classes
        return self

    def decision_function(self, X: Any, subjects: Sequence | None = None) -> np.ndarray:
        """Scores of the classes, `[windows, classes]`; of two classes that of the second, `[windows]`."""
        check_is_fitted(self)
        if self.method != "fine-tuning":
            return self.fit_.decision_function(self.embedder_.transform(X, subjects))
        windows, _ = self.embedder_.windows(X)
        batches = outputs_of(self.model_, windows, self.batch_size, "scores")
        logits = np.concatenate([outputs.logits.double().cpu().numpy() for outputs in batches])
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    @available_if(lambda self: self.method in WITH_PROBABILITIES)
    def predict_proba(self, X: Any, subjects: Sequence | None = None) -> np.ndarray:
        """Probabilities of the classes, `[windows, classes]`: of logistic regressions and after fine-tuning."""
        scores = self.decision_function(X, subjects)
        return softmax(np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores, axis=1)

    def predict(self, X: Any, subjects: Sequence | None = None) -> np.ndarray:
        """The class of each window, `[windows]`."""
        scores = self.decision_function(X, subjects)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    def score(
        self, X: Any, y: Sequence, sample_weight: Sequence | None = None, subjects: Sequence | None = None
    ) -> float:
        """Accuracy, as of every classifier of scikit-learn."""
        return accuracy_score(y, self.predict(X, subjects), sample_weight=sample_weight)

    def _check_method(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, but is {self.method!r}.")
        if self.method != "fine-tuning":
            if self.training is not None:
                raise ValueError(f"training is for method='fine-tuning', but the method is {self.method!r}.")
            return
        if isinstance(self.model, nn.Module):
            raise ValueError("Fine-tuning needs the name of a checkpoint, but model is a model.")
        others = {"output": self.output != "embedding", "band_power": self.band_power, "centred": self.centred}
        if unused := [name for name, is_set in others.items() if is_set]:
            raise ValueError(f"{', '.join(unused)}: for frozen features only, but the method is fine-tuning.")

    def _fine_tune(
        self,
        windows: Dataset,
        classes: np.ndarray,
        labels: np.ndarray,
        people: np.ndarray | None,
        penalty: float | None,
    ) -> None:
        """The checkpoint with a head for the classes, trained."""
        train = windows.add_column("labels", labels).cast_column("labels", ClassLabel(names=[*map(str, classes)]))
        if people is not None:
            train = train.add_column("subject", people.tolist())
        extractor = self.embedder_.feature_extractor_
        model = make_classifier(ModelArguments(model=str(self.model)), train, extractor).to(self.device)
        start_from_fit(model, train, self.random_state, penalty)
        with TemporaryDirectory() as folder:
            settings = {"output_dir": folder, "save_strategy": "no", "report_to": "none", "seed": self.random_state}
            settings |= {"use_cpu": torch.device(self.device).type == "cpu"} | dict(self.training or {})
            arguments = FineTuningArguments(**settings)
            trainer = make_trainer(model, arguments, layer_decay=1.0, train_dataset=train, processing_class=extractor)
            trainer.train()
        self.model_ = model.eval()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags


def people_of(X: Any, subjects: Sequence | None) -> np.ndarray | None:
    """
    The person of each window, `[windows]`: those given, else the column `subject` of the metadata of epochs, else
    nobody knows, `None`.

    Raises:
        ValueError: where a window has nobody's name.
    """
    if subjects is None:
        parts = X if isinstance(X, list) else [X]
        tables = [epochs.metadata if isinstance(epochs, mne.BaseEpochs) else None for epochs in parts]
        if not tables or any(table is None or "subject" not in table for table in tables):
            return None
        subjects = np.concatenate([table["subject"] for table in tables])
    people = np.array([str(name) for name in subjects])
    if nameless := [index for index, name in enumerate(people) if not is_named(name)]:
        raise ValueError(f"{len(nameless)} windows have no name in subjects, e.g. number {nameless[0]}.")
    return people


def refuse_to_centre(people: np.ndarray | None, windows: int) -> None:
    """
    Raises:
        ValueError: where it is not known whose the windows are, or a person has a single one.
    """
    if people is None:
        raise ValueError(
            "centred=True needs the person of each window: give subjects, or epochs with a column `subject` in their "
            "metadata. scikit-learn hands subjects on to predict and score only with "
            "sklearn.set_config(enable_metadata_routing=True)."
        )
    if len(people) != windows:
        raise ValueError(f"Expected the person of each of {windows} windows in subjects, but got {len(people)}.")
    names, counts = np.unique(people, return_counts=True)
    if alone := names[counts == 1].tolist():
        raise ValueError(
            f"A single window of {', '.join(map(str, alone))} has nothing left without the person's mean. Give more "
            "windows of each person at once, of all classes, or centred=False."
        )


def refuse_one_class_each(people: np.ndarray, labels: np.ndarray) -> None:
    """
    Raises:
        ValueError: where nobody has windows of two classes: the classes would go with each person's mean.
    """
    if all(len(set(labels[people == name])) == 1 for name in set(people)):
        raise ValueError(
            "Nobody has windows of two classes, so the classes would go with each person's mean. Give centred=False."
        )


def channels_of(report: ChannelReport) -> list[str]:
    return [channel.name for channel in report.channels]


def digest_of(model: nn.Module) -> str:
    """A hash of the names and weights of a model."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["NeurIPTClassifier", "NeurIPTEmbedder"]
