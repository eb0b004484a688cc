"""Frozen features, the fit over people, and the head that starts from it; classical baselines."""

import json

import numpy as np
import pytest
import torch
from conftest import make_batch, small_config
from datasets import ClassLabel, Dataset
from scipy.special import softmax
from sklearn.base import clone

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForSequenceClassification
from neuript_hf.evaluation.baselines import (
    band_power,
    band_power_baseline,
    baseline_scores,
    connectivity_by_lobe,
    make_baseline,
    on_common_channels,
    signals_in_microvolt,
    tangent_space_baseline,
)
from neuript_hf.evaluation.linear_probe import (
    FITS,
    PENALTIES,
    _scorable_folds,
    centred,
    class_scores,
    fewer_columns,
    fit_logistic,
    people_folds,
    pooled_features,
    start_head,
)
from neuript_hf.evaluation.metrics import balanced_accuracy


def dataset(classes, windows=24):
    batch = make_batch(windows=windows, channels=3, samples=64)
    columns = {name: list(tensor.numpy()) for name, tensor in batch.items()}
    data = Dataset.from_dict(columns | {"labels": np.arange(windows) % classes})
    return data.cast_column("labels", ClassLabel(num_classes=classes))


def as_batch(data):
    return {name: torch.tensor(data[name]) for name in ("input_values", "electrode_positions", "lobe_mask")}


def test_pooled_features_are_the_encoders():
    model = NeurIPTForSequenceClassification(small_config(hidden_dropout=0.5)).train()
    data = dataset(2)
    features = pooled_features(model, data, batch_size=5)
    assert model.training  # as it was
    model.eval()
    with torch.no_grad():
        expected = model.neuript(**as_batch(data)).pooler_output
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_started_head_gives_the_probabilities_of_the_fit(classes):
    model = NeurIPTForSequenceClassification(small_config(num_labels=classes)).eval()
    data = dataset(classes)
    features = pooled_features(model, data)
    labels, subjects = np.asarray(data["labels"]), np.arange(24) // 6
    fit = fit_logistic(features, labels, subjects)
    start_head(model, fit)
    with torch.no_grad():
        probabilities = model(**as_batch(data)).logits.softmax(-1)
    np.testing.assert_allclose(probabilities.numpy(), fit.predict_proba(features), atol=1e-4)


def coded_features(seed=0):
    """Features of 8 people, 20 windows each, that tell person and class together, and such that tell the class."""
    rng = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(8), 20)
    labels = np.tile([0, 1], 80)
    person_code = rng.normal(size=(8, 2, 30))[subjects, labels]  # each person's classes lie elsewhere
    informative = rng.normal(size=(160, 30))
    informative[:, 3] += 4 * labels
    return person_code + 0.01 * rng.normal(size=(160, 30)), informative, labels, subjects


@pytest.mark.parametrize("method", FITS)
def test_fits_carry_over_to_people_left_out(method):
    person_code, informative, labels, subjects = coded_features()
    accuracies = {}
    for name, features in (("person", person_code), ("class", informative)):
        decisions = np.full(160, -1)
        for fit, check in people_folds(labels, subjects, count=4):
            head = FITS[method](features[fit], labels[fit], subjects[fit])
            decisions[check] = class_scores(head, features[check]).argmax(axis=1)
        accuracies[name] = (decisions == labels).mean()
    assert accuracies["class"] > 0.85 and accuracies["person"] < 0.7


def test_centring_takes_off_each_persons_own_mean():
    """What is the person's alone is gone, what is the class's stays, and nobody changes anybody else."""
    person_code, _, labels, subjects = coded_features()
    features = labels[:, None] + 100.0 * subjects[:, None] + person_code[:, :2]
    taken = centred(features, subjects)
    np.testing.assert_allclose([taken[subjects == person].mean(axis=0) for person in range(8)], 0, atol=1e-9)
    np.testing.assert_allclose(taken[subjects == 3], centred(features[subjects == 3], np.zeros(20)))
    np.testing.assert_allclose(np.diff(taken[:2], axis=0), np.diff(features[:2], axis=0))


def test_folds_keep_people_together_and_check_everybody_once():
    labels, subjects = np.tile([0, 1], 30), np.repeat(list("abcdef"), 10)
    folds = people_folds(labels, subjects, count=3, seed=1)
    assert len(folds) == 3 and len(people_folds(labels, subjects, count=50)) == 6
    assert sorted(np.concatenate([check for _, check in folds])) == list(range(60))
    for fit, check in folds:
        assert not set(subjects[fit]) & set(subjects[check]) and len(fit) + len(check) == 60
    with pytest.raises(ValueError, match="at least two people, but there is 1"):
        people_folds(labels, np.zeros(60))


def test_the_penalty_is_chosen_over_people():
    """Where features tell the person alone, the folds must not take the fit that knows everybody by heart."""
    person_code, informative, labels, subjects = coded_features()
    chosen = 1 / fit_logistic(person_code, labels, subjects)[-1].C / 30
    mean = np.zeros(2)
    for position, penalty in enumerate((chosen, PENALTIES[-1])):
        for fit, check in people_folds(labels, subjects):
            head = fit_logistic(person_code[fit], labels[fit], subjects[fit], penalty=penalty)
            mean[position] += balanced_accuracy(labels[check], class_scores(head, person_code[check])) / 5
    assert np.isclose(chosen, PENALTIES).any() and mean[0] >= mean[1]
    assert fit_logistic(informative, labels, subjects, penalty=0.7)[-1].C == 1 / 21


@pytest.mark.parametrize("method", FITS)
def test_more_features_than_windows_change_nothing_but_the_time(method):
    """The penalty is chosen on turned features: the folds choose as on the features themselves."""
    rng = np.random.default_rng(0)
    labels, subjects = np.tile([0, 1], 30), np.repeat(np.arange(6), 10)
    few = rng.normal(size=(60, 10)) + 0.8 * labels[:, None] * (np.arange(10) < 2)
    many = few @ rng.normal(size=(10, 300)) + 3 * rng.normal(size=(60, 300))
    turned = fewer_columns(many)
    assert turned.shape == (60, 60)
    np.testing.assert_allclose(turned @ turned.T, many @ many.T, atol=1e-6 * np.abs(many @ many.T).max())
    scaled = (many - many.mean(axis=0)) / many.std(axis=0)
    classifier = FITS[method](many, labels, subjects)[-1]
    fit, check = people_folds(labels, subjects)[0]
    turned = fewer_columns(scaled)
    decisions = [clone(classifier).fit(X[fit], labels[fit]).decision_function(X[check]) for X in (scaled, turned)]
    np.testing.assert_allclose(*decisions, atol=1e-2 * np.abs(decisions[0]).max())


@pytest.mark.parametrize(("method", "classes"), [("logistic", 2), ("logistic", 3), ("ridge", 2), ("svm", 3)])
def test_scores_are_higher_where_a_class_is_likelier(method, classes):
    rng = np.random.default_rng(0)
    labels, subjects = np.arange(90) % classes, np.arange(90) // 15
    features = rng.normal(size=(90, 6)) + 3 * np.eye(6)[labels]
    fit = FITS[method](features, labels, subjects, penalty=1.0)
    scores = class_scores(fit, features)
    assert scores.shape == (90, classes) and (scores.argmax(axis=1) == fit.predict(features)).all()
    assert balanced_accuracy(labels, scores) > 0.9
    if method == "logistic":
        np.testing.assert_allclose(softmax(scores, axis=1), fit.predict_proba(features), atol=1e-9)
    assert np.isfinite(class_scores(fit, 1e6 * features)).all()


def test_a_fit_needs_people_and_classes():
    features = np.random.default_rng(0).normal(size=(8, 3))
    with pytest.raises(ValueError, match="at least two people and two classes, but has 1 and 2"):
        fit_logistic(features, np.arange(8) % 2, np.zeros(8))
    with pytest.raises(
        ValueError, match="each person has only some of the classes, and .* single person of class 0, 1"
    ):
        fit_logistic(features, np.arange(8) // 4, np.arange(8) // 4)
    # the error says what to do, and that leads on
    for people in (np.zeros(8), np.arange(8) // 4):
        with pytest.raises(
            ValueError, match="penalty=1.0, linear_probe.py --penalty 1, finetune.py --head_start false"
        ):
            fit_logistic(features, np.arange(8) // 4, people)
        assert fit_logistic(features, np.arange(8) // 4, people, penalty=1.0).predict(features).shape == (8,)


@pytest.mark.parametrize("people", [(2, 2), (2, 4), (3, 2)])
def test_folds_of_few_people_with_one_class_each(people):
    """There are as many folds as have every class on both sides."""
    labels = np.repeat([0] * people[0] + [1] * people[1], 6)
    subjects = np.repeat(np.arange(sum(people)), 6)
    features = np.random.default_rng(0).normal(size=(len(labels), 3)) + 2 * labels[:, None]
    folds = _scorable_folds(labels, subjects, 0)
    assert folds and all(set(labels[part]) == {0, 1} for fold in folds for part in fold)
    assert all(not set(subjects[fit]) & set(subjects[check]) for fit, check in folds)
    assert balanced_accuracy(labels, class_scores(fit_logistic(features, labels, subjects), features)) > 0.9


def test_band_power_of_sines():
    """A sine of amplitude a has power a^2 / 2, in its own band alone."""
    time = np.arange(256) / 64
    frequencies = (2.5, 5, 7, 9, 11, 13.5, 17.5, 22.5, 27.5)
    sines = np.stack([20 * np.sin(2 * np.pi * frequency * time) for frequency in frequencies])[None]
    features = band_power(sines, 64).reshape(9, 9)
    np.testing.assert_allclose(np.diag(features), np.log(200), atol=0.25)
    assert (features.argmax(axis=1) == np.arange(9)).all()
    assert np.isfinite(band_power(np.zeros((1, 2, 256)), 64)).all()


@pytest.mark.parametrize("method", [band_power_baseline(64), tangent_space_baseline(64, (8.0, 12.0))])
def test_baselines_tell_frequencies_apart(method):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    time = np.arange(256) / 64
    phases = rng.random((60, 3, 1))
    signals = 5 * np.sin(2 * np.pi * (np.where(labels, 12, 8)[:, None, None] * time + phases))
    signals = signals + rng.normal(0, 5, signals.shape)
    assert method.fit(signals[:40], labels[:40]).score(signals[40:], labels[40:]) > 0.9


def test_a_baseline_that_does_not_exist():
    with pytest.raises(ValueError, match="band_power, tangent_space, eegnet or none, but is 'forest'"):
        make_baseline("forest", 64)


def test_baselines_get_microvolts():
    extractor = NeurIPTFeatureExtractor()
    data = dataset(2, windows=3)
    signals = signals_in_microvolt(data, extractor)
    np.testing.assert_allclose(signals[1], extractor.invert(np.asarray(data[1]["input_values"])), rtol=1e-4, atol=1e-5)
    mixed = Dataset.from_list([{"input_values": [[0.0] * 4]}, {"input_values": [[0.0] * 5]}])
    with pytest.raises(ValueError, match="windows of one shape"):
        signals_in_microvolt(mixed, extractor)


def recordings(*channels):
    """Two windows of each recording; every value of a channel is the number in its name."""
    rows = []
    for number, names in enumerate(channels):
        for window in range(2):
            rows.append(
                {
                    "input_values": [[float(name[1:])] * 128 for name in names],
                    "lobe_mask": [[name[1:] == "1", name[1:] != "1"] for name in names],
                    "channel_mask": [True] * len(names),
                    "attention_mask": [True] * 128,
                    "recording": f"{'-'.join(names)}-{number}",
                    "subject": f"p{number}",
                    "report": json.dumps({"channels": [{"name": name} for name in names]}) if window == 0 else "",
                    "labels": window,
                }
            )
    return Dataset.from_list(rows).cast_column("labels", ClassLabel(num_classes=2))


def test_methods_get_the_channels_that_all_recordings_have():
    train, unseen = recordings(["E1", "E2", "E3"], ["E1", "E2", "E3"]), recordings(["E3", "E4", "E1"])
    (fitted, scored), left_out = on_common_channels(train, unseen)
    for part in (fitted, scored):
        assert all(np.array(window)[:, 0].tolist() == [1, 3] for window in part["input_values"])
        assert all(mask == [[True, False], [False, True]] for mask in part["lobe_mask"])
    assert left_out == ["E2", "E4"] and fitted["labels"] == train["labels"]
    assert connectivity_by_lobe(scored, NeurIPTFeatureExtractor()).shape == (2, (2 + 3) * 6)
    assert baseline_scores("band_power", train, unseen, NeurIPTFeatureExtractor())["channels_left_out"] == left_out
    assert on_common_channels(train) == ([train], [])
    with pytest.raises(ValueError, match="names of those of 1 recordings, e.g. E1-0, are not known"):
        on_common_channels(recordings(["E1"], ["E1", "E2"], ["E1"]).select([1, 2, 3, 4]))
    with pytest.raises(ValueError, match="channels that all recordings have, but there are none"):
        on_common_channels(recordings(["E1"], ["E2"]))
