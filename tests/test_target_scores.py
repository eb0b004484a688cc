"""Scores of several labels at once and of numbers, against scikit-learn and by hand."""

import json

import numpy as np
import pytest
from datasets import Dataset, List, Value
from scipy.special import expit, logit
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score
from transformers import EvalPrediction

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.evaluation.baselines import baseline_scores
from neuript_hf.evaluation.metrics import EEGMetric, compute_metrics, draw_people, print_scores, scores_of
from neuript_hf.evaluation.target_scores import macro_auroc, mean_correlation, multi_label_scores, regression_scores


RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, (60, 3))
PROBABILITIES = np.round(np.clip(0.3 * LABELS + RNG.uniform(0, 0.7, (60, 3)), 0.01, 0.99), 1)  # with ties
AGES = RNG.normal(45, 15, (60, 2))
GUESSES = AGES + RNG.normal(0, 10, (60, 2))
PEOPLE = np.repeat(np.arange(6), 10)


def test_several_labels():
    scores = multi_label_scores(LABELS, PROBABILITIES)
    assert scores["macro_auroc"] == pytest.approx(roc_auc_score(LABELS, PROBABILITIES, average="macro"))
    assert scores["label_accuracy"] == pytest.approx(((PROBABILITIES >= 0.5) == LABELS).mean())
    by_hand = [
        2 * (d & t).sum() / (d.sum() + t.sum()) for d, t in zip((PROBABILITIES >= 0.5).T, LABELS.T == 1, strict=True)
    ]
    assert scores["macro_f1"] == pytest.approx(np.mean(by_hand))


def test_a_label_that_all_or_none_have_is_left_out_of_the_ranking_scores():
    labels = np.column_stack([LABELS[:, 0], np.ones(60), np.zeros(60)])
    scores = multi_label_scores(labels, PROBABILITIES)
    assert scores["macro_auroc"] == pytest.approx(roc_auc_score(LABELS[:, 0], PROBABILITIES[:, 0]))
    assert np.isnan(multi_label_scores(labels[:, 1:], PROBABILITIES[:, 1:])["macro_auroc"])


def test_numbers():
    scores = regression_scores(AGES, GUESSES)
    correlations = [np.corrcoef(AGES[:, k], GUESSES[:, k])[0, 1] for k in range(2)]
    assert scores["pearson_r"] == pytest.approx(np.mean(correlations))
    assert scores["r2"] == pytest.approx(r2_score(AGES, GUESSES))
    assert scores["rmse"] == pytest.approx(np.sqrt(((AGES - GUESSES) ** 2).mean(axis=0)).mean())
    assert scores["mae"] == pytest.approx(mean_absolute_error(AGES, GUESSES))
    constant = regression_scores(AGES[:, 0], np.full(60, 45.0))
    assert np.isnan(constant["pearson_r"]) and constant["r2"] <= 0
    same = regression_scores(np.full(5, 45.0), np.arange(5.0))
    assert np.isnan(same["pearson_r"]) and np.isnan(same["r2"]) and same["mae"] == pytest.approx(43)


@pytest.mark.parametrize(
    ("score", "labels", "values"), [(macro_auroc, LABELS, PROBABILITIES), (mean_correlation, AGES, GUESSES)]
)
def test_a_draw_of_people_counts_their_windows_as_often_as_they_are_drawn(score, labels, values):
    times = np.array([[2, 0, 1, 1, 0, 2], [1, 1, 1, 1, 1, 1]])
    drawn = score(labels, values, times[:, PEOPLE].astype(float))
    for weights, value in zip(times, drawn, strict=True):
        rows = np.repeat(np.arange(60), weights[PEOPLE])
        assert value == pytest.approx(score(labels[rows], values[rows], np.ones((1, len(rows))))[0])


@pytest.mark.parametrize(
    ("score", "labels", "values", "words"),
    [
        (multi_label_scores, LABELS + 1, PROBABILITIES, "must be 0 or 1"),
        (multi_label_scores, LABELS[:, :2], PROBABILITIES, r"of one shape, but got \(60, 2\) and \(60, 3\)"),
        (regression_scores, AGES, np.full_like(AGES, np.nan), "60 of 60 predictions are not finite"),
        (regression_scores, np.full_like(AGES, np.inf), AGES, "60 of 60 labels are not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(score, labels, values, words):
    with pytest.raises(ValueError, match=words):
        score(labels, values)


@pytest.mark.parametrize(
    ("predictions", "labels", "score", "expected"),
    [
        (np.eye(3)[[0, 1, 2]], np.array([0, 1, 2]), "balanced_accuracy", 1.0),
        (logit(PROBABILITIES), LABELS.astype(np.float32), "macro_auroc", roc_auc_score(LABELS, PROBABILITIES)),
        (GUESSES[:, :1], AGES[:, 0], "mae", mean_absolute_error(AGES[:, 0], GUESSES[:, 0])),
        (GUESSES[:, :1], AGES[:, :1], "mae", mean_absolute_error(AGES[:, 0], GUESSES[:, 0])),
        (GUESSES[:, :1], np.arange(60), "mae", mean_absolute_error(np.arange(60), GUESSES[:, 0])),
        ((GUESSES, "hidden states"), AGES, "r2", r2_score(AGES, GUESSES)),
    ],
)
def test_compute_metrics_chooses_by_the_labels(predictions, labels, score, expected):
    assert compute_metrics(EvalPrediction(predictions, labels))[score] == pytest.approx(expected)


def test_numbers_that_are_all_0_or_1_need_the_problem_type():
    scores = compute_metrics(EvalPrediction(GUESSES, LABELS[:, :2]), problem_type="regression")
    assert scores["mae"] == pytest.approx(np.abs(LABELS[:, :2] - GUESSES).mean())


def data_set(labels, feature, names):
    value = Value(feature, id=json.dumps(names))
    columns = {"labels": labels.tolist(), "subject": [f"p{k}" for k in PEOPLE], "recording": [f"r{k}" for k in PEOPLE]}
    data = Dataset.from_dict(columns)
    return data.cast_column("labels", List(value, length=len(names)) if labels.ndim == 2 else value)


def test_scores_of_several_labels(capsys):
    data = data_set(LABELS == 1, "bool", ["eye", "muscle", "chew"])
    scores = scores_of(logit(PROBABILITIES), data)
    low, high = scores["macro_auroc_interval"]
    assert scores["problem_type"] == "multi_label_classification" and scores["chance"] == 0.5
    assert low < scores["macro_auroc"] < high and scores["people"] == 6
    assert scores["by_name"]["muscle"]["macro_auroc"] == pytest.approx(
        roc_auc_score(LABELS[:, 1], PROBABILITIES[:, 1])
    )
    assert scores["by_person"]["p0"] == pytest.approx(((PROBABILITIES >= 0.5) == LABELS)[:10].mean())
    assert "recording_macro_auroc" not in scores, "labels differ within a recording"
    print_scores("title", {"model": scores, "none": None})
    assert "macro AUROC" in (printed := capsys.readouterr().out) and f"{scores['macro_auroc']:.3f}" in printed


def test_scores_of_one_number(capsys):
    """Ages are those of people, so recordings have scores too, of the mean of their windows."""
    ages = np.repeat([20.0, 30.0, 40.0, 50.0, 60.0, 70.0], 10)
    guesses = ages[:, None] + RNG.normal(0, 10, (60, 1))
    scores = scores_of(guesses, data_set(ages, "float32", ["age"]))
    assert scores["problem_type"] == "regression" and scores["chance"] == 0 and list(scores["by_name"]) == ["age"]
    assert scores["by_person"]["p1"] == pytest.approx(np.abs(guesses[10:20] - 30).mean())
    means = guesses.reshape(6, 10).mean(axis=1)
    assert scores["recording_mae"] == pytest.approx(np.abs(means - ages[::10]).mean())
    assert scores["recording_pearson_r"] > scores["pearson_r"]
    times = draw_people([f"p{k}" for k in range(6)])
    rows = np.concatenate([np.flatnonzero(PEOPLE == person) for person in np.repeat(np.arange(6), times[0])])
    first = np.corrcoef(ages[rows], guesses[rows, 0])[0, 1]
    assert scores["pearson_r_interval"][0] - 0.1 < first <= 1
    print_scores("title", {"model": scores})
    assert "Pearson r" in capsys.readouterr().out


def test_the_metric_of_evaluate_does_not_cut_labels_to_integers():
    metric = EEGMetric()
    metric.add_batch(predictions=expit(GUESSES[:2]), references=[0.7, 1.0])
    with pytest.raises(ValueError, match=r"Labels must be 0 to 1, but there are \[0.7\]"):
        metric.compute()


def test_eegnet_refuses_what_it_cannot_learn():
    data = data_set(AGES[:, 0], "float32", ["age"])
    with pytest.raises(ValueError, match="eegnet is for one class"):
        baseline_scores("eegnet", data, data, NeurIPTFeatureExtractor())
