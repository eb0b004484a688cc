"""Several labels at once and numbers to predict, from files to a checkpoint that others load and use."""

import json
import sys

import finetune
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_recording
from transformers import AutoModelForSequenceClassification, pipeline

from neuript_hf import NeurIPTConfig, NeurIPTForSequenceClassification, verify
from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.evaluation.linear_probe import class_scores, start_head
from neuript_hf.evaluation.target_fits import fit_labels, fit_regression


SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
    "num_hidden_layers": 2,
    "merge_sizes": [2, 4],
    "num_experts": [0, 2],
}
AGES = [20, 70, 32, 61, 45, 52, 25, 66]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Eight people. The rhythm at 10 Hz grows with age; eye and muscle artefacts are slow and fast."""
    folder, rows = tmp_path_factory.mktemp("people"), []
    time = np.arange(8 * 128) / 128
    for person, age in enumerate(AGES):
        present = {"eye": person % 2, "muscle": person // 2 % 2}

        def change(signal, age=age, present=present):
            signal += 1e-6 * age * np.sin(2 * np.pi * 10 * time)
            signal += 6e-5 * present["eye"] * np.sin(2 * np.pi * 1.5 * time)
            signal += 3e-5 * present["muscle"] * np.sin(2 * np.pi * 24 * time)

        file = write_recording(folder / f"p{person}_raw.fif", person, 8.0, change=change).name
        split = "train" if person < 6 else "test"
        text = ";".join(name for name in present if present[name]) or ";"
        rows.append(
            {"file": file, "subject": f"p{person}", "split": split, "artefacts": text, "age": age, "iq": 150 - age}
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@pytest.fixture
def fine_tune(manifest, tmp_path, monkeypatch, capsys):
    """Runs examples/finetune.py, as `main` does."""

    def run(*arguments):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        command = [
            "--data",
            manifest,
            "--montage",
            "C3,Cz,C4,Pz",
            "--window_seconds",
            "2",
            "--config",
            json.dumps(SMALL),
        ]
        command += ["--use_cpu", "--save_strategy", "no", "--num_train_epochs", "2", "--output_dir", tmp_path / "run"]
        monkeypatch.setattr(sys, "argv", ["finetune.py", *map(str, command), *arguments])
        finetune.main()
        results = json.loads((tmp_path / "run" / "results.json").read_text())
        return tmp_path / "run", results, capsys.readouterr().out

    return run


def rows_of(folder, manifest):
    return pipeline("eeg-classification", model=str(folder))(manifest.parent / "p6_raw.fif")


def test_several_labels_at_once(fine_tune, manifest):
    folder, results, printed = fine_tune("--label_column", "artefacts", "--problem_type", "multi_label_classification")
    assert results["model"]["problem_type"] == "multi_label_classification"
    assert set(results["model"]["by_name"]) == {"eye", "muscle"} and "macro AUROC" in printed
    for method in ("model", "head_start", "baseline"):
        assert 0.5 < results[method]["macro_auroc"] <= 1, "the artefacts are plain to see"
    assert "to find eye, muscle" in read_training_record(folder).stages[-1].kind
    assert verify(folder)["passed"]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == {0: "eye", 1: "muscle"} and model.config.target_mean is None
    rows = rows_of(folder, manifest)
    assert len(rows) == 4 and set(rows[0]) == {"onset", "duration", "labels", "scores"}
    for row in rows:
        assert set(row["scores"]) == {"eye", "muscle"}
        assert row["labels"] == [name for name, score in row["scores"].items() if score >= 0.5]
    assert "macro AUROC" in (card := (folder / "README.md").read_text()) and "eye, muscle (several at once)" in card


def test_numbers_to_predict(fine_tune, manifest):
    folder, results, printed = fine_tune("--label_column", "age", "iq", "--problem_type", "regression")
    assert results["model"]["problem_type"] == "regression" and "Pearson r" in printed
    assert results["baseline"]["pearson_r"] > 0.5, "the rhythm grows with age"
    low, high = results["baseline"]["pearson_r_interval"]
    assert -1 <= low <= high <= 1
    assert "to predict age, iq" in read_training_record(folder).stages[-1].kind
    assert verify(folder)["passed"]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.target_mean == pytest.approx([np.mean(AGES[:6]), 150 - np.mean(AGES[:6])])
    values = pd.DataFrame([row["values"] for row in rows_of(folder, manifest)])
    assert list(values) == ["age", "iq"]
    assert values["age"].between(0, 100).all() and values["iq"].between(50, 150).all(), "in the unit of the manifest"
    assert "Pearson r" in (card := (folder / "README.md").read_text()) and "| numbers | age, iq" in card


def test_one_number(fine_tune, manifest):
    folder, results, _ = fine_tune("--label_column", "age", "--problem_type", "regression", "--baseline", "none")
    assert results["baseline"] is None and results["model"]["mae"] < 60
    (row, *_) = rows_of(folder, manifest)
    assert set(row["values"]) == {"age"} and 0 < row["values"]["age"] < 100


def test_a_baseline_for_classes_alone_is_refused_before_the_training(fine_tune):
    with pytest.raises(
        ValueError, match="eegnet is for one class for each window, not for regression. Choose band_power"
    ):
        fine_tune("--label_column", "age", "--problem_type", "regression", "--baseline", "eegnet")


RNG = np.random.default_rng(0)
FEATURES, PEOPLE = RNG.normal(3, 2, (60, 40)), np.repeat(np.arange(6), 10)


@pytest.mark.parametrize("numbers", [1, 2])
@pytest.mark.parametrize("standardised", [True, False])
def test_a_head_starts_from_a_regression(numbers, standardised):
    """The model's numbers are those of the fit, in the unit of the labels."""
    ages = 45 + 10 * FEATURES[:, :numbers] @ np.ones((numbers, numbers)) + RNG.normal(0, 1, (60, numbers))
    fit = fit_regression(FEATURES, ages[:, 0] if numbers == 1 else ages, PEOPLE)
    predicted = class_scores(fit, FEATURES)
    assert predicted.shape == (60, numbers) and np.corrcoef(predicted[:, 0], ages[:, 0])[0, 1] > 0.95
    fields = {"target_mean": [45.0] * numbers, "target_scale": [20.0] * numbers} if standardised else {}
    assert logits_of(fit, "regression", numbers, fields) == pytest.approx(predicted, abs=1e-3)


def test_a_head_starts_from_a_regression_for_each_label():
    """Also a single label, one that all windows have, and one that none has."""
    labels = np.stack([FEATURES[:, 0] > 3, np.ones(60), np.zeros(60)], axis=1).astype(float)
    fit = fit_labels(FEATURES, labels, PEOPLE)
    decisions = class_scores(fit, FEATURES)
    assert ((decisions[:, 0] > 0) == labels[:, 0]).mean() > 0.9
    assert np.allclose(decisions[:, 1], np.log(60.5 / 0.5)) and np.allclose(decisions[:, 2], np.log(0.5 / 60.5))
    assert (fit.predict(FEATURES) == (decisions >= 0)).all()
    assert logits_of(fit, "multi_label_classification", 3, {}) == pytest.approx(decisions, abs=1e-4)
    alone = fit_labels(FEATURES, labels[:, :1], PEOPLE)
    assert class_scores(alone, FEATURES) == pytest.approx(decisions[:, :1])


def logits_of(fit, problem_type, num_labels, fields):
    config = NeurIPTConfig(**SMALL, num_labels=num_labels, problem_type=problem_type, pooled_scales=[0], **fields)
    model = NeurIPTForSequenceClassification(config)
    model.classifier = torch.nn.Linear(FEATURES.shape[1], num_labels)
    start_head(model, fit)
    logits = model.classifier(torch.tensor(FEATURES, dtype=torch.float32)).detach().numpy()
    if config.target_scale is not None:
        logits = logits * config.target_scale + config.target_mean
    return logits


@pytest.mark.parametrize("fit", [fit_labels, fit_regression])
def test_fits_choose_their_penalty_by_people_and_need_two(fit):
    with pytest.raises(ValueError, match="A fit needs at least two people, but has 1"):
        fit(FEATURES, FEATURES[:, :2] > 3, np.zeros(60))
    noise = RNG.integers(0, 2, (60, 1)).astype(float)
    chosen, weak = fit(FEATURES, noise, PEOPLE), fit(FEATURES, noise, PEOPLE, penalty=0.001)
    assert np.abs(chosen[-1].coef_).sum() < 0.5 * np.abs(weak[-1].coef_).sum(), "noise deserves a strong penalty"
