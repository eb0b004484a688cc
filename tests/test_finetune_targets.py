"""Several labels at once and numbers to predict, from files to a checkpoint that others load and use."""

import json
import sys

import finetune
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_window, write_recording
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, TrainingArguments, pipeline
from transformers.utils import logging

from neuript_hf import (
    DataCollatorForEEG,
    NeurIPTConfig,
    NeurIPTFeatureExtractor,
    NeurIPTForSequenceClassification,
    NeurIPTTrainer,
    load_recordings,
    verify,
)
from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.evaluation.linear_probe import class_scores, start_head
from neuript_hf.evaluation.metrics import compute_metrics
from neuript_hf.evaluation.target_fits import fit_labels, fit_regression
from neuript_hf.training.finetuning import ModelArguments, make_classifier


ONE_CLASS = "single_label_classification"
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
    classes = load_recordings(
        manifest, NeurIPTFeatureExtractor.from_pretrained(folder), label_column="artefacts", problem_type=ONE_CLASS
    )["train"]
    further = make_classifier(ModelArguments(model=str(folder)), classes, NeurIPTFeatureExtractor())
    assert further.config.problem_type == ONE_CLASS and further.config.target_mean is None
    assert further(**DataCollatorForEEG()([classes[0]])).loss.isfinite(), "a head for other targets starts anew"
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


@pytest.mark.parametrize(
    ("labels", "fields", "problem_type", "loss"),
    [
        ([0, 1, 2, 1], {"num_labels": 3}, ONE_CLASS, np.log(3)),
        (["rest", "task"] * 2, {"id2label": {0: "rest", 1: "task"}}, ONE_CLASS, np.log(2)),
        ([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]] * 2, {"num_labels": 3}, "multi_label_classification", np.log(2)),
        ([["eye", "jaw"], ["jaw"]] * 2, {"id2label": {0: "eye", 1: "jaw"}}, "multi_label_classification", np.log(2)),
        ([3.0, -4.0, 5.0, 0.5], {"num_labels": 1}, "regression", 12.5625),
        ([3, 4, 5, 0], {"num_labels": 1}, "regression", 12.5),
        ([[30.0, 4.0], [20.0, 4.0]] * 2, {"num_labels": 2, "problem_type": "regression"}, "regression", 333),
        ([30.0, 60.0] * 2, {"num_labels": 1, "target_mean": [45.0], "target_scale": [15.0]}, "regression", 1.0),
    ],
)
def test_trainer_with_its_own_collator(labels, fields, problem_type, loss, tmp_path):
    """
    A new head answers about 0, so the loss is that of a guess. What the labels turned out to be is saved, and decides
    what the scores and the pipeline's rows are.
    """
    config = NeurIPTConfig(**SMALL | {"num_experts": [0, 0]}, **fields)
    data = Dataset.from_list([make_window(seed=k, labels=label) for k, label in enumerate(labels)])
    arguments = {"max_steps": 1, "logging_steps": 1, "save_strategy": "no", "use_cpu": True, "disable_tqdm": True}
    trainer = NeurIPTTrainer(
        model=NeurIPTForSequenceClassification(config),
        args=TrainingArguments(str(tmp_path), **arguments),
        train_dataset=data,
        eval_dataset=data,
        processing_class=NeurIPTFeatureExtractor(montage=["C3", "Cz", "C4"], window_seconds=1.0),
        compute_metrics=compute_metrics,
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss, rel=0.25)
    main = {ONE_CLASS: "balanced_accuracy", "multi_label_classification": "macro_auroc"}
    assert f"eval_{main.get(problem_type, 'rmse')}" in trainer.evaluate()
    trainer.save_model(tmp_path / "saved")
    pipe = pipeline("eeg-classification", model=str(tmp_path / "saved"))
    assert pipe.model.config.problem_type == problem_type
    (row, *_) = pipe(RNG.normal(0, 10, (3, 256)), sampling_rate=128, channel_names=["C3", "Cz", "C4"], unit="uV")
    expected = {ONE_CLASS: {"label", "score", "scores"}, "regression": {"values"}}
    assert set(row) - {"onset", "duration"} == expected.get(problem_type, {"labels", "scores"})


RNG = np.random.default_rng(0)
FEATURES, PEOPLE = RNG.normal(3, 2, (60, 40)), np.repeat(np.arange(6), 10)


def test_numbers_far_from_1_are_warned_of_with_what_to_set(tmp_path, caplog):
    """And with these fields there is no warning."""
    data = Dataset.from_list([make_window(seed=k, labels=label) for k, label in enumerate([30.0, 60.0])])
    fields = {"num_labels": 1}
    for warned in (True, False):
        caplog.clear()
        model = NeurIPTForSequenceClassification(NeurIPTConfig(**SMALL, **fields))
        logging.enable_propagation()
        NeurIPTTrainer(model=model, args=TrainingArguments(str(tmp_path), use_cpu=True), train_dataset=data)
        logging.disable_propagation()
        assert ("Set target_mean=[45.0], target_scale=[15.0] in the configuration" in caplog.text) == warned
        fields |= {"target_mean": [45.0], "target_scale": [15.0]}


def test_a_loss_of_ones_own_knows_the_problem_type_too(tmp_path):
    """The model then sees no labels, but the checkpoint has to say what its logits are."""
    data = Dataset.from_list([make_window(seed=k, labels=label) for k, label in enumerate([[1.0, 0.0], [1.0, 1.0]])])

    def loss(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels)

    model = NeurIPTForSequenceClassification(NeurIPTConfig(**SMALL, num_labels=2))
    arguments = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, save_strategy="no", disable_tqdm=True)
    NeurIPTTrainer(model=model, args=arguments, train_dataset=data, compute_loss_func=loss).train()
    assert model.config.problem_type == "multi_label_classification"


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
