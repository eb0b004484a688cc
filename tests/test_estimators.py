"""scikit-learn estimators: what they compute, what they refuse, and how they behave in scikit-learn's own hands."""

import pickle

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import COMPACT, ROOT, make_raw, small_config
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data
from transformers import set_seed

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTModel, save_checkpoint
from neuript_hf.evaluation.baselines import BANDS, band_power, signals_in_microvolt
from neuript_hf.evaluation.linear_probe import centred, fit_logistic, fit_ridge, pooled_features
from neuript_hf.evaluation.prototypes import PrototypeClassifier, fit_prototypes
from neuript_hf.integrations.estimators import NeurIPTClassifier, NeurIPTEmbedder


CHANNELS = ["C3", "Cz", "C4", "Pz"]
RATE = 128
# Loading takes most of the time of a small model, so this one has few weights.
ONE_LAYER = {
    "merge_sizes": [8],
    "num_hidden_layers": 1,
    "num_experts": [2],
    "decoder_num_experts": [0, 0],
    "cross_num_experts": [0, 0],
}


def write_folder(folder, seed=0, window_seconds=1.0, **settings):
    set_seed(seed)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=window_seconds, **settings)
    save_checkpoint(NeurIPTModel(small_config(**ONE_LAYER, **COMPACT)), extractor, folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def labels():
    return np.tile(["rest", "task"], 12)


@pytest.fixture(scope="module")
def epochs(labels):
    """Four people with six windows of a second each, of noise; in "task" they are three times as loud."""
    signal = np.random.default_rng(0).normal(0, 1e-5, (24, 4, RATE)) * np.where(labels == "task", 3, 1)[:, None, None]
    epochs = mne.EpochsArray(signal, mne.create_info(CHANNELS, RATE, "eeg"))
    epochs.metadata = pd.DataFrame({"subject": np.repeat(["ann", "bob", "cem", "dee"], 6)})
    return epochs


@pytest.fixture(scope="module")
def people(epochs):
    return epochs.metadata["subject"].to_numpy()


# Features


@pytest.mark.parametrize("output", ["embedding", "pooler_output"])
def test_features_are_those_of_the_package(folder, epochs, output):
    embedder = NeurIPTEmbedder(folder, output=output, band_power=True)
    features = embedder.fit_transform(epochs)
    windows, _ = embedder.windows(epochs)
    expected = pooled_features(NeurIPTModel.from_pretrained(folder), windows, output=output)
    power = band_power(signals_in_microvolt(windows, NeurIPTFeatureExtractor.from_pretrained(folder)), 64)
    np.testing.assert_allclose(features, np.concatenate([expected, power], axis=1), atol=1e-6)
    names = embedder.get_feature_names_out()
    assert len(set(names)) == features.shape[1]
    first = {"embedding": "power, frontal, 4-8 Hz", "pooler_output": "scale0_frontal_0"}[output]
    assert names[0] == first and names[-1] == "band power, Pz, 25-30 Hz" and len(BANDS) * 4 == power.shape[1]


def test_epochs_and_arrays_give_the_same(folder, epochs):
    """Arrays with an `info` or with names, rate and unit; and epochs as scikit-learn cuts them."""
    expected = NeurIPTEmbedder(folder).fit_transform(epochs)
    volts = epochs.get_data()
    for embedder, windows in (
        (NeurIPTEmbedder(folder, info=epochs.info), volts),
        (NeurIPTEmbedder(folder, info=epochs.info, unit="uV"), 1e6 * volts),
        (NeurIPTEmbedder(folder, sampling_rate=RATE, channel_names=CHANNELS, unit="uV"), 1e6 * volts),
        (NeurIPTEmbedder(folder), [epochs[index] for index in range(24)]),
    ):
        np.testing.assert_allclose(embedder.transform(windows), expected, atol=1e-4)


def test_a_table_with_names(folder, epochs):
    table = NeurIPTEmbedder(folder, output="pooler_output", centred=True).set_output(transform="pandas")
    table = table.fit_transform(epochs)
    assert "scale1_temporal_right_12, centred" in table.columns
    np.testing.assert_allclose(table.groupby(epochs.metadata["subject"].to_numpy()).mean(), 0, atol=1e-6)


def test_the_names_of_the_shipped_embedding():
    names = NeurIPTEmbedder(ROOT / "hub" / "neuript-tiny").get_feature_names_out()
    assert len(names) == len(set(names)) == 230 and "power, occipital, 10-12 Hz" in names


def test_the_report_says_what_became_of_channels(folder, epochs):
    flat = epochs.copy().rename_channels({"Pz": "EEG Pz-Ref"})
    flat._data[:, 3] = 0
    embedder = NeurIPTEmbedder(folder).fit(flat)
    assert embedder.channels_ == CHANNELS
    assert [channel.name for channel in embedder.report_.channels if channel.masked] == ["Pz"]


def test_whom_the_weights_have_seen(folder):
    assert NeurIPTEmbedder(folder).trained_on == []
    assert "eegmmidb" in NeurIPTEmbedder(ROOT / "hub" / "neuript-tiny").trained_on


# What is refused


def test_windows_of_another_length(folder, epochs):
    raw = make_raw(np.random.default_rng(0).normal(0, 1e-5, (4, 10 * RATE)), CHANNELS, RATE)
    whole = mne.make_fixed_length_epochs(raw, duration=2, preload=True)
    with pytest.raises(ValueError, match=r"windows of 1 s, .* but they are of 2 s.*window_seconds=2"):
        NeurIPTEmbedder(folder).fit(whole)
    assert NeurIPTEmbedder(folder, window_seconds=2).fit_transform(whole).shape == (5, 40)
    events = mne.make_fixed_length_events(raw, duration=1)[:8]
    ending = mne.Epochs(raw, events, tmin=0, tmax=1, baseline=None, preload=True)  # with the sample at tmax
    np.testing.assert_allclose(
        NeurIPTEmbedder(folder).transform(ending),
        NeurIPTEmbedder(folder).transform(ending.copy().crop(0, 1, include_tmax=False)),
        atol=2e-2,  # the filter's end is a sample later
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda epochs: make_raw(epochs.get_data()[0], CHANNELS), "RawArray. Of a mne.io.Raw"),
        (lambda epochs: epochs.get_data()[0], r"but got an array \[4, 128\]"),
        (lambda epochs: epochs.get_data(), "An array needs sampling_rate, channel_names, unit"),
        (lambda epochs: with_bad_time(epochs), "2 windows lie in time that is marked as bad, e.g. number 3"),
    ],
)
def test_what_is_no_window(folder, epochs, spoil, message):
    with pytest.raises(ValueError, match=message):
        NeurIPTEmbedder(folder).fit(spoil(epochs))


def with_bad_time(epochs):
    """The same windows from a continuous recording in which a stretch of the fourth and the fifth is marked."""
    raw = make_raw(np.concatenate(epochs.get_data(), axis=1), CHANNELS, RATE)
    raw.set_annotations(mne.Annotations(3.5, 1.0, "BAD"))
    return mne.make_fixed_length_epochs(raw, duration=1, preload=True, reject_by_annotation=False)


@pytest.mark.parametrize(
    ("estimator", "settings", "message"),
    [
        (NeurIPTEmbedder, {"output": "logits"}, "output must be one of"),
        (NeurIPTEmbedder, {"model": "object"}, "needs its feature_extractor"),
        (NeurIPTClassifier, {"method": "forest"}, "method must be one of"),
        (NeurIPTClassifier, {"training": {}}, "training is for method='fine-tuning'"),
        (NeurIPTClassifier, {"method": "fine-tuning", "centred": True}, "centred: for frozen features only"),
        (NeurIPTClassifier, {"method": "fine-tuning", "model": "object"}, "needs the name of a checkpoint"),
    ],
)
def test_settings_that_do_not_fit(folder, epochs, labels, estimator, settings, message):
    settings = {"model": folder} | settings
    if settings["model"] == "object":
        settings["model"] = NeurIPTModel(small_config())
    with pytest.raises(ValueError, match=message):
        estimator(**settings).fit(epochs, labels)


def test_band_power_needs_the_channels_of_fit(folder, epochs):
    embedder = NeurIPTEmbedder(folder, band_power=True).fit(epochs)
    with pytest.raises(ValueError, match="C3, Cz, C4, Pz, but these windows have C3, Cz, C4"):
        embedder.transform(epochs.copy().pick(CHANNELS[:3]))
    assert embedder.fit(epochs.copy().pick(CHANNELS[:3])).channels_ == CHANNELS[:3]


# People


def test_centred_features(folder, epochs, people):
    plain = NeurIPTEmbedder(folder).fit_transform(epochs)
    embedder = NeurIPTEmbedder(folder, centred=True)
    np.testing.assert_allclose(embedder.fit_transform(epochs), centred(plain, people))
    arrays = NeurIPTEmbedder(folder, centred=True, info=epochs.info)
    np.testing.assert_allclose(arrays.transform(epochs.get_data(), subjects=people), centred(plain, people), atol=1e-4)
    with pytest.raises(ValueError, match="needs the person of each window"):
        arrays.transform(epochs.get_data())
    with pytest.raises(ValueError, match="the person of each of 24 windows in subjects, but got 3"):
        embedder.transform(epochs, subjects=people[:3])
    with pytest.raises(ValueError, match="A single window of bob"):
        embedder.transform(epochs[:7])
    with pytest.raises(ValueError, match="1 windows have no name in subjects, e.g. number 1"):
        embedder.transform(epochs[:2], subjects=["ann", float("nan")])


def test_centring_would_take_the_classes_away(folder, epochs, people):
    with pytest.raises(ValueError, match="Nobody has windows of two classes"):
        NeurIPTClassifier(folder, centred=True).fit(epochs, np.where(people < "c", "first", "second"))


def test_the_penalty_is_chosen_over_people(folder, epochs, labels, people):
    """Those of the metadata, those given, or the middle penalty where there are no two."""
    features = NeurIPTEmbedder(folder).fit_transform(epochs)
    chosen = fit_ridge(features, labels, people)[-1].alpha
    arrays = NeurIPTClassifier(folder, info=epochs.info)
    assert NeurIPTClassifier(folder).fit(epochs, labels).fit_[-1].alpha == chosen
    assert arrays.fit(epochs.get_data(), labels, subjects=people).fit_[-1].alpha == chosen
    assert arrays.fit(epochs.get_data(), labels).fit_[-1].alpha == features.shape[1] != chosen
    assert NeurIPTClassifier(folder).fit(epochs[:6], labels[:6]).fit_[-1].alpha == features.shape[1]


# Classes


@pytest.mark.parametrize("method", ["ridge", "logistic", "svm", "prototypes"])
def test_fits_to_frozen_features(folder, epochs, labels, method):
    classifier = NeurIPTClassifier(folder, method=method).fit(epochs, labels)
    assert classifier.classes_.tolist() == ["rest", "task"]
    scores = classifier.decision_function(epochs)
    np.testing.assert_array_equal(classifier.predict(epochs), np.where(scores > 0, "task", "rest"))
    assert classifier.score(epochs, labels) == (classifier.predict(epochs) == labels).mean() > 0.9
    assert hasattr(classifier, "predict_proba") == (method == "logistic")
    if method == "logistic":
        expected = fit_logistic(classifier.embedder_.transform(epochs), labels, epochs.metadata["subject"])
        expected = expected.predict_proba(classifier.embedder_.transform(epochs))
        np.testing.assert_allclose(classifier.predict_proba(epochs), expected, atol=1e-6)


def test_prototypes_are_the_nearest_means():
    rng = np.random.default_rng(0)
    for classes in (2, 3):
        names = np.array(["c", "a", "b"])[:classes]
        features, labels = rng.normal(size=(2 * classes, 5)), np.repeat(names, 2)
        fit, new = fit_prototypes(features, labels), rng.normal(size=(50, 5))
        means = np.stack([features[labels == name].mean(axis=0) for name in fit.classes_])
        nearest = np.linalg.norm(new[:, None] - means, axis=-1).argmin(axis=1)
        np.testing.assert_array_equal(fit.predict(new), fit.classes_[nearest])
        assert fit.counts_.tolist() == [2] * classes
    with pytest.raises(ValueError, match="at least two classes"):
        fit_prototypes(features, np.zeros(6))


@pytest.fixture(scope="module")
def fine_tuned(folder, epochs, labels):
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 12, "disable_tqdm": True}
    return NeurIPTClassifier(folder, method="fine-tuning", training=training).fit(epochs, labels)


def test_fine_tuning(fine_tuned, folder, epochs, labels):
    assert fine_tuned.model_.config.id2label == {0: "rest", 1: "task"}
    stage = fine_tuned.model_.training_record["stages"][-1]
    assert stage["subjects"] == ["ann", "bob", "cem", "dee"] and stage["steps"] == 2
    before = NeurIPTModel.from_pretrained(folder).state_dict()
    after = fine_tuned.model_.neuript.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    probabilities = fine_tuned.predict_proba(epochs)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(fine_tuned.classes_[probabilities.argmax(axis=1)], fine_tuned.predict(epochs))
    assert fine_tuned.score(epochs, labels) > 0.9  # the head starts from a fit
    again = pickle.loads(pickle.dumps(fine_tuned))
    np.testing.assert_array_equal(again.decision_function(epochs), fine_tuned.decision_function(epochs))


def test_fine_tuning_of_windows_whose_people_nobody_knows(folder, epochs, labels):
    training = {"max_steps": 1, "disable_tqdm": True}
    classifier = NeurIPTClassifier(folder, method="fine-tuning", training=training, info=epochs.info)
    record = classifier.fit(epochs.get_data(), labels).model_.training_record
    assert record["stages"][-1]["subjects"] == [] and record["gaps"]


# Pickles


def test_a_pickle_loads_the_weights_again(folder, epochs, labels):
    classifier = NeurIPTClassifier(folder).fit(epochs, labels)
    stored = pickle.dumps(classifier)
    assert len(stored) < 50_000  # the weights have more
    np.testing.assert_array_equal(pickle.loads(stored).predict(epochs), classifier.predict(epochs))


def test_a_pickle_refuses_other_weights(tmp_path, epochs):
    stored = pickle.dumps(NeurIPTEmbedder(write_folder(tmp_path)).fit(epochs))
    write_folder(tmp_path, seed=1)
    with pytest.raises(ValueError, match="are not those that this estimator was pickled with"):
        pickle.loads(stored).transform(epochs)


def test_a_model_is_pickled_with_its_weights(folder, epochs):
    model, extractor = NeurIPTModel.from_pretrained(folder), NeurIPTFeatureExtractor.from_pretrained(folder)
    embedder = NeurIPTEmbedder(model, feature_extractor=extractor)
    again = pickle.loads(pickle.dumps(clone(embedder)))
    np.testing.assert_array_equal(again.transform(epochs), NeurIPTEmbedder(folder).transform(epochs))


def test_another_model_is_loaded_when_it_is_set(folder, epochs, tmp_path):
    embedder = NeurIPTEmbedder(folder).fit(epochs)
    other = write_folder(tmp_path, seed=1)
    embedder.set_params(model=other, output="pooler_output")
    expected = NeurIPTEmbedder(other, output="pooler_output").transform(epochs)
    np.testing.assert_array_equal(embedder.transform(epochs), expected)


# scikit-learn's machinery


def test_folds_over_people(folder, epochs, labels, people):
    """Epochs carry their people along, also through a pipeline."""
    settings = {"groups": people, "cv": LeaveOneGroupOut(), "error_score": "raise"}
    scores = cross_val_score(NeurIPTClassifier(folder, centred=True, penalty=1.0), epochs, labels, **settings)
    assert len(scores) == 4 and scores.min() > 0.8
    pipeline = make_pipeline(NeurIPTEmbedder(folder, centred=True), StandardScaler(), PrototypeClassifier())
    assert cross_val_score(pipeline, epochs, labels, **settings).min() > 0.8


def test_people_of_arrays_are_routed(folder, epochs, labels, people):
    settings = {"cv": GroupKFold(2), "error_score": "raise"}
    classifier = NeurIPTClassifier(folder, info=epochs.info, centred=True, penalty=1.0)
    pipeline = make_pipeline(NeurIPTEmbedder(folder, info=epochs.info, centred=True), PrototypeClassifier())
    with config_context(enable_metadata_routing=True):
        for estimator in (classifier, pipeline):
            given = {"params": {"groups": people, "subjects": people}}
            assert cross_val_score(estimator, epochs.get_data(), labels, **settings, **given).min() > 0.8
        search = GridSearchCV(classifier, {"method": ["ridge", "prototypes"], "band_power": [False, True]}, **settings)
        search.fit(epochs.get_data(), labels, groups=people, subjects=people)
    assert search.best_score_ > 0.8 and len(search.cv_results_["params"]) == 4


@pytest.mark.slow
def test_processes(folder, epochs, labels, people):
    """joblib's processes load the weights by themselves."""
    settings = {"groups": people, "cv": GroupKFold(2), "error_score": "raise"}
    classifier = NeurIPTClassifier(folder)
    alone = cross_val_score(classifier, epochs, labels, **settings)
    np.testing.assert_array_equal(cross_val_score(classifier, epochs, labels, n_jobs=2, **settings), alone)


def test_rows_of_numbers_are_no_signals(folder):
    for estimator in (NeurIPTEmbedder(folder), NeurIPTClassifier(folder)):
        tags = estimator.__sklearn_tags__().input_tags
        assert tags.three_d_array and not tags.two_d_array
        with pytest.raises(ValueError, match=r"but got an array \[10, 3\]"):
            estimator.fit(np.zeros((10, 3)), np.arange(10) % 2)


# scikit-learn's checks are about rows of numbers, which are no signals. Here each column makes a channel louder, and
# what is checked is everything behind that: 2 channels, half a second, no high-pass, so that it is quick.
CARRIER = np.random.default_rng(0).normal(0, 10, (2, 32))


def as_windows(rows):
    loudness = np.stack([rows[:, channel::2].sum(axis=1) for channel in range(2)], axis=1)
    return CARRIER * 2.0 ** np.clip(loudness, -3, 3)[..., None]


class OfRows:
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class EmbedderOfRows(OfRows, NeurIPTEmbedder):
    def fit(self, X, y=None):
        validate_data(self, X)
        return super().fit(X)

    def fit_transform(self, X, y=None, subjects=None):
        return self.fit(X).transform(X)

    def windows(self, X):
        return super().windows(as_windows(validate_data(self, X, reset=False)))


class ClassifierOfRows(OfRows, NeurIPTClassifier):
    def fit(self, X, y, subjects=None):
        X, y = validate_data(self, X, y)
        return super().fit(as_windows(X), y, subjects)

    def decision_function(self, X, subjects=None):
        check_is_fitted(self)
        return super().decision_function(as_windows(validate_data(self, X, reset=False)), subjects)


@pytest.fixture(scope="module")
def loaded_once(tmp_path_factory):
    """
    The estimators are made before there are fixtures, so they name a checkpoint that appears now. Loading it for every
    fit would take most of the time; other tests are about that.
    """
    folder = write_folder(tmp_path_factory.mktemp("weights"), window_seconds=0.5, l_freq=None)
    weights = NeurIPTModel.from_pretrained(folder), NeurIPTFeatureExtractor.from_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NeurIPTEmbedder, "_loaded", lambda self: weights)
        yield


OF_ROWS = {"sampling_rate": 64, "channel_names": ["Fz", "Oz"], "unit": "uV", "batch_size": 512}


@parametrize_with_checks(
    [
        PrototypeClassifier(),
        EmbedderOfRows("weights", **OF_ROWS),
        ClassifierOfRows("weights", method="logistic", penalty=0.001, **OF_ROWS),
    ],
    expected_failed_checks=lambda estimator: (
        {"check_methods_subset_invariance": "the model computes in float32, which rounds by the size of a batch"}
        if isinstance(estimator, ClassifierOfRows)
        else {}
    ),
)
def test_checks_of_scikit_learn(estimator, check, loaded_once):
    check(estimator)
