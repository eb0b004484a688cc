"""The scores against scikit-learn and against cases whose answer is known, and the three ways to ask for them."""

from functools import partial

import numpy as np
import pytest
from datasets import Dataset
from scipy.special import softmax
from sklearn import metrics
from transformers import EvalPrediction

from neuript_hf.evaluation.metrics import (
    SCORES,
    AccuracyOverPeople,
    EEGMetric,
    calibration_of,
    classification_scores,
    compute_metrics,
    scores_by_person,
    scores_of,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draw_windows(rng, n_windows=120, n_classes=2, skill=1.0):
    """Logits that know something of the labels."""
    labels = rng.integers(n_classes, size=n_windows)
    logits = rng.normal(size=(n_windows, n_classes)) + skill * np.eye(n_classes)[labels]
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("n_classes", [2, 4])
def test_scores_agree_with_scikit_learn(rng, n_classes):
    logits, labels = draw_windows(rng, n_classes=n_classes)
    probabilities, decisions = softmax(logits.astype(float), axis=1), logits.argmax(axis=1)
    truth = np.eye(n_classes)[labels]
    if n_classes == 2:  # the areas are those of the second class
        truth, probabilities = labels, probabilities[:, 1]
    assert classification_scores(logits, labels) == pytest.approx(
        {
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, decisions),
            "cohen_kappa": metrics.cohen_kappa_score(labels, decisions),
            "weighted_f1": metrics.f1_score(labels, decisions, average="weighted"),
            "auroc": metrics.roc_auc_score(truth, probabilities, average="macro"),
            "auc_pr": metrics.average_precision_score(truth, probabilities, average="macro"),
        }
    )


def test_known_answer():
    # Three of four windows of class 0 and one of two of class 1 are right.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.1, 0.9], [0.6, 0.4]])
    scores = classification_scores(probabilities, [0, 0, 0, 0, 1, 1], from_logits=False)
    assert scores["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert scores["cohen_kappa"] == pytest.approx((4 / 6 - 5 / 9) / (1 - 5 / 9))
    assert scores["weighted_f1"] == pytest.approx(4 / 6 * 3 / 4 + 2 / 6 * 1 / 2)
    assert scores["auroc"] == pytest.approx(7 / 8)
    assert scores["auc_pr"] == pytest.approx((1 + 2 / 3) / 2)


def test_perfect_and_constant_predictions():
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert classification_scores(10 * np.eye(3)[labels], labels) == pytest.approx(dict.fromkeys(SCORES, 1.0))
    constant = classification_scores(np.tile([1.0, 0.0, 0.0], (6, 1)), labels)
    expected = {"balanced_accuracy": 1 / 3, "cohen_kappa": 0, "weighted_f1": 1 / 6, "auroc": 0.5, "auc_pr": 1 / 3}
    assert constant == pytest.approx(expected)


@pytest.mark.filterwarnings("error")
def test_a_class_without_windows_is_left_out(rng):
    logits, labels = draw_windows(rng, n_classes=3)
    logits, labels = logits[labels != 2], labels[labels != 2]
    decisions, probabilities = logits.argmax(axis=1), softmax(logits.astype(float), axis=1)
    assert 2 in decisions
    scores = classification_scores(logits, labels)
    recalls = [(decisions[labels == index] == index).mean() for index in (0, 1)]
    areas = [metrics.roc_auc_score(labels == index, probabilities[:, index]) for index in (0, 1)]
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert scores["auroc"] == pytest.approx(np.mean(areas))


@pytest.mark.filterwarnings("error")
def test_undefined_scores_are_nan():
    scores = classification_scores([[2.0, 1.0], [1.0, 2.0]], [0, 0])
    assert np.isnan(scores["auroc"]) and np.isnan(scores["auc_pr"])
    assert scores["balanced_accuracy"] == 0.5 and scores["cohen_kappa"] == 0
    assert np.isnan(classification_scores([[2.0, 1.0]], [0])["cohen_kappa"])


def test_logits_become_probabilities(rng):
    logits, labels = draw_windows(rng, n_classes=3)
    recordings = labels * 10 + rng.integers(10, size=len(labels))
    from_probabilities = classification_scores(softmax(logits, axis=1), labels, recordings, from_logits=False)
    assert classification_scores(logits, labels, recordings) == pytest.approx(from_probabilities, rel=1e-5)


def test_recordings_of_unequal_length_count_once():
    # Recording "long" is right in the mean although most of its windows are wrong; "short" is wrong.
    probabilities = np.array([[0.45, 0.55], [0.45, 0.55], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    labels = [0, 0, 0, 1, 1]
    recordings = ["long", "long", "long", "right", "short"]
    scores = classification_scores(probabilities, labels, recordings, from_logits=False)
    assert scores["balanced_accuracy"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert scores["recording_balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    # Means of class 1: long 0.4, right 0.8, short 0.3.
    assert scores["recording_auroc"] == pytest.approx(1 / 2)
    assert set(scores) == set(SCORES) | {f"recording_{name}" for name in SCORES}


def test_recordings_with_labels_by_trial_have_no_recording_scores(rng):
    logits, labels = draw_windows(rng, n_windows=8)
    labels[:2] = [0, 1]
    assert set(classification_scores(logits, labels, ["one"] * 8)) == set(SCORES)


def test_order_of_windows_is_irrelevant(rng):
    logits, labels = draw_windows(rng)
    recordings = 100 * labels + rng.integers(9, size=len(labels))
    order = rng.permutation(len(labels))
    shuffled = classification_scores(logits[order], labels[order], recordings[order])
    assert shuffled == pytest.approx(classification_scores(logits, labels, recordings))


@pytest.mark.parametrize("wrap", [lambda logits: logits, lambda logits: (logits, np.zeros(3))])
def test_compute_metrics_takes_what_trainer_gives(rng, wrap):
    logits, labels = draw_windows(rng)
    dataset = Dataset.from_dict({"recording": [f"{label}-{index % 5}" for index, label in enumerate(labels)]})
    prediction = EvalPrediction(predictions=wrap(logits), label_ids=labels)
    assert compute_metrics(prediction) == classification_scores(logits, labels)
    with_recordings = partial(compute_metrics, recordings=dataset["recording"])(prediction)
    assert with_recordings == classification_scores(logits, labels, list(dataset["recording"]))
    assert "recording_auroc" in with_recordings


def test_metric_of_evaluate(rng, tmp_path):
    logits, labels = draw_windows(rng, n_classes=3)
    recordings = [f"{label}-{index % 4}" for index, label in enumerate(labels)]
    expected = classification_scores(logits, labels, recordings)
    metric = EEGMetric(cache_dir=str(tmp_path))
    assert metric.compute(predictions=logits, references=labels, recordings=recordings) == pytest.approx(expected)
    for rows in np.array_split(np.arange(len(labels)), 7):
        metric.add_batch(predictions=logits[rows], references=labels[rows])
    assert metric.compute(recordings=recordings) == pytest.approx(expected)
    probabilities = metric.compute(predictions=softmax(logits, axis=1), references=labels, from_logits=False)
    assert probabilities == pytest.approx(classification_scores(logits, labels), rel=1e-5)


def test_metric_of_evaluate_refuses_unequal_lengths(tmp_path):
    with pytest.raises(ValueError, match="Mismatch"):
        EEGMetric(cache_dir=str(tmp_path)).compute(predictions=[[0.0, 1.0]], references=[0, 1])


@pytest.mark.parametrize(
    ("predictions", "references", "recordings", "message"),
    [
        ([[0.0, np.nan], [0.0, 1.0]], [0, 1], None, "1 of 2 predictions are not finite, the first in row 0"),
        ([[0.0, 1.0]], [0, 1], None, "a label for each of 1 predictions"),
        ([[0.0, 1.0]], [0], ["a", "b"], "a recording or person for each of 1 windows"),
        ([[0.0, 1.0]], [2], None, r"Labels must be 0 to 1, but there are \[2\]"),
        ([0.0, 1.0], [0, 1], None, "n_windows, n_classes"),
        (np.empty((0, 2)), [], None, "n_windows, n_classes"),
    ],
)
def test_mistakes_are_named(predictions, references, recordings, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(predictions, references, recordings)


def test_scores_by_person(rng):
    logits, labels = draw_windows(rng, n_windows=30)
    subjects = np.repeat(["sub-02", "sub-01", "sub-03"], 10)
    table = scores_by_person(logits, labels, subjects)
    assert list(table) == ["sub-01", "sub-02", "sub-03"]
    assert table["sub-02"] == pytest.approx(classification_scores(logits[:10], labels[:10]))
    with pytest.raises(ValueError, match="person for each of 30 windows"):
        scores_by_person(logits, labels, subjects[:5])


def scored(people=8, windows=20, classes=2, skill=1.0, seed=0):
    """Labels and people of windows, and scores of two methods that fail on the same people."""
    rng = np.random.default_rng(seed)
    subjects = np.repeat([f"p{person}" for person in range(people)], windows)
    labels = rng.integers(classes, size=len(subjects))
    hard = rng.normal(0, 1.5, people).repeat(windows)
    clear = skill * np.eye(classes)[labels] * (1 + hard)[:, None]
    one, two = (clear + gain * np.eye(classes)[labels] + rng.normal(size=clear.shape) for gain in (0.6, 0.0))
    return one, two, Dataset.from_dict({"labels": labels, "subject": subjects})


@pytest.mark.parametrize("classes", [2, 3])
def test_the_interval_is_that_of_drawing_people(classes):
    one, _, data = scored(classes=classes)
    labels, subjects = np.asarray(data["labels"]), np.asarray(data["subject"])
    accuracy = AccuracyOverPeople.of(one, data)
    assert accuracy.value == pytest.approx(metrics.balanced_accuracy_score(labels, one.argmax(axis=1)))
    people = scores_by_person(one, labels, subjects)
    assert accuracy.by_person == pytest.approx({name: row["balanced_accuracy"] for name, row in people.items()})
    rng, draws = np.random.default_rng(1), []
    for drawn in rng.integers(8, size=(300, 8)):
        rows = np.concatenate([np.flatnonzero(subjects == f"p{person}") for person in drawn])
        draws.append(metrics.balanced_accuracy_score(labels[rows], one[rows].argmax(axis=1)))
    np.testing.assert_allclose(accuracy.interval, np.quantile(draws, [0.025, 0.975]), atol=0.03)
    assert AccuracyOverPeople.of(one, data).interval == accuracy.interval


def test_the_interval_is_over_people_and_not_over_windows():
    # Half of the people are always right, the others at chance: windows of one person say little about the next.
    labels, subjects = np.tile([0, 1], 200), np.repeat(np.arange(10), 40)
    right = np.where(subjects < 5, True, np.tile([True, True, False, False], 100))
    logits = np.eye(2)[np.where(right, labels, 1 - labels)]
    widths = []
    for unit in (subjects, np.arange(400)):
        data = Dataset.from_dict({"labels": labels, "subject": unit.astype(str)})
        low, high = AccuracyOverPeople.of(logits, data).interval
        assert low < 0.75 < high
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]


def test_a_class_without_windows_does_not_count():
    data = Dataset.from_dict({"labels": [0, 0, 1, 1], "subject": ["a", "a", "b", "b"]})
    accuracy = AccuracyOverPeople.of(np.array([[1, 0], [1, 0], [1, 0], [0, 1]]), data)
    assert accuracy.value == 0.75 and accuracy.by_person == {"a": 1.0, "b": 0.5}
    assert set(accuracy.draws) == {1.0, 0.5, 0.75} and accuracy.interval == [0.5, 1.0]


def test_differences_are_paired_over_people():
    one, two, data = scored(people=12)
    first, second = AccuracyOverPeople.of(one, data), AccuracyOverPeople.of(two, data)
    difference = first - second
    np.testing.assert_allclose(difference.value, first.value - second.value)
    assert difference.by_person["p3"] == first.by_person["p3"] - second.by_person["p3"]

    def width(accuracy):
        return np.diff(accuracy.interval)[0]

    # both fail on the same people: far narrower than if other people were drawn for each method
    assert width(difference) < 0.7 * np.hypot(width(first), width(second))
    assert difference.interval[0] > 0 and (first - first).interval == [0.0, 0.0]
    mean = AccuracyOverPeople.mean([first, second])
    np.testing.assert_allclose(mean.value, (first.value + second.value) / 2)
    assert mean.by_person["p3"] == pytest.approx((first.by_person["p3"] + second.by_person["p3"]) / 2)
    nobody = AccuracyOverPeople.of(np.zeros((2, 2)), Dataset.from_dict({"labels": [0, 1], "subject": ["x", "y"]}))
    assert AccuracyOverPeople.mean([first, nobody]).by_person == {}


def test_scores_of_a_data_set():
    one, _, data = scored()
    data = data.add_column("recording", [f"{row['subject']}-{row['labels']}" for row in data])
    scores, accuracy = scores_of(one, data), AccuracyOverPeople.of(one, data)
    assert scores["balanced_accuracy_interval"] == accuracy.interval and scores["by_person"] == accuracy.by_person
    assert (scores["people"], scores["windows"], scores["chance"]) == (8, 160, 0.5)
    expected = classification_scores(one, data["labels"], data["recording"])
    assert {name: scores[name] for name in expected} == expected


def test_calibration_by_hand():
    def windows(probability, right, count):
        logits = np.tile([np.log(probability), np.log(1 - probability)], (count, 1))
        return logits, np.repeat([0, 1], [right, count - right])

    parts = [windows(0.7, 7, 10), windows(0.9, 5, 10)]
    logits, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = calibration_of(logits, Dataset.from_dict({"labels": labels}))
    assert found == pytest.approx({"confidence": 0.8, "accuracy": 0.6, "calibration_error": 0.2})
    certain = calibration_of(np.array([[1000.0, 0.0]]), Dataset.from_dict({"labels": [0]}))
    assert certain == {"confidence": 1.0, "accuracy": 1.0, "calibration_error": 0.0}
