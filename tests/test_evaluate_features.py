"""Frozen features beside methods without a network: the protocol is kept, comparisons are paired over people."""

import json
import sys

import evaluate_features
import numpy as np
import pandas as pd
import pytest
import tasks
import told_tasks
import torch
from conftest import small_config
from datasets import ClassLabel, Dataset, Features, List, Value
from evaluate_features import Embedder, as_json, as_table, content, held_out_scores
from sklearn.base import BaseEstimator, ClassifierMixin
from summarise import compare
from tasks import manifest_task

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTModel, save_checkpoint
from neuript_hf.checkpoints.training_record import SeenDataset, TrainingRecord, TrainingStage, write_training_record
from neuript_hf.data.atomic import write_json
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.data.tasks import load_splits, make_extractor
from neuript_hf.evaluation.baselines import band_power_baseline, signals_in_microvolt
from neuript_hf.evaluation.linear_probe import pooled_features
from neuript_hf.evaluation.metrics import AccuracyOverPeople, balanced_accuracy


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings") / "simulated"
    channels = ["Fz", "C3", "Cz", "C4", "Pz", "O1", "O2"]
    return simulate_dataset(folder, n_subjects=7, seed=0, n_trials=20, sampling_rate=128.0, channel_names=channels)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(77)
    folder = tmp_path_factory.mktemp("weights")
    extractor = NeurIPTFeatureExtractor(montage=["C3", "Cz", "C4"])
    save_checkpoint(NeurIPTModel(small_config(num_lobes=extractor.num_lobes)), extractor, folder)
    return folder


@pytest.fixture
def evaluation(manifest, checkpoint, tmp_path, monkeypatch, capsys):
    """Runs the program on the simulated people; returns its result file, read, and what it printed."""
    for names in (tasks.TASKS, tasks.WITHIN_RECORDINGS):
        monkeypatch.setitem(names, "hands", {"rows": [], "events": ["left_hand", "right_hand"]})

    def evaluate(*options, data=manifest, model=checkpoint):
        command = ["--model", model, "--data", data, "--output", tmp_path / "result.json", "--tasks", "hands"]
        command += ["--montage", "C3,Cz,C4", "--cache_dir", tmp_path / "features", "--random_seeds", "2"]
        monkeypatch.setattr(sys, "argv", ["evaluate_features.py", *map(str, command), *map(str, options)])
        evaluate_features.main()
        return json.loads((tmp_path / "result.json").read_text()), capsys.readouterr().out

    return evaluate


def people_of(manifest, *splits):
    table = pd.read_csv(manifest, dtype=str)
    return set(table[table["split"].isin(splits)]["subject"])


@pytest.mark.slow
def test_from_files_to_a_comparison(evaluation, manifest, tmp_path):
    result, printed = evaluation()
    hands = result["tasks"]["hands"]
    assert set(hands["predictions"]) == people_of(manifest, "val", "test")
    # these weights were saved without ever being trained
    assert hands["tested_people"]["description"] == "2 unseen people" and result["weights"]["history"] == "known"
    assert hands["people"] == 2 and hands["seen_people"] == [] and hands["classes"] == ["left_hand", "right_hand"]

    # accuracies can be found again from the predictions, differences from the accuracies
    predictions = hands["predictions"].values()
    labels = np.concatenate([person["labels"] for person in predictions])
    assert len(labels) == hands["windows"]["scored"] == sum(sum(p["recordings"].values()) for p in predictions)
    accuracy = {}
    methods = ("checkpoint", "random 0", "random 1", "band power", "connectivity")
    for method in (*methods, *(f"{name}, centred" for name in methods)):
        scores = np.concatenate([np.transpose(person["scores"][method]) for person in predictions])
        accuracy[method] = hands["accuracies"][method]["value"]
        np.testing.assert_allclose(accuracy[method], balanced_accuracy(labels, scores))
        np.testing.assert_allclose(accuracy[method], hands["other_scores"][method]["balanced_accuracy"])
    assert accuracy["random 0"] != accuracy["random 1"]
    assert accuracy["band power"] > 0.6 and accuracy["band power"] != accuracy["band power, centred"]
    random = (accuracy["random 0"] + accuracy["random 1"]) / 2
    np.testing.assert_allclose(hands["differences"]["random"]["value"], accuracy["checkpoint"] - random)
    np.testing.assert_allclose(
        result["overall"]["minus band power"]["value"], hands["differences"]["band power"]["value"]
    )

    assert result["kinds"]["classes within recordings"] == result["overall"]
    assert {"command", "commit", "threads", "versions"} == set(result["provenance"])
    assert result["seeds"] == {"folds": 0, "random weights": [0, 1]} and len(result["weights"]["sha256"]) == 64
    assert f"| hands | 2, {len(labels)} | 0.500 | {accuracy['checkpoint']:.3f} |" in printed
    assert all(f"- hands, {person}: checkpoint " in printed for person in hands["predictions"])

    # a second run finds the features, and the result is the same
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
    again, _ = evaluation()
    assert again["tasks"] == result["tasks"] and len(kept) == 6
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}

    table = compare([tmp_path / "result.json", tmp_path / "result.json"])
    assert table.count(f"| {accuracy['checkpoint']:.3f} | {accuracy['checkpoint']:.3f} |") == 2
    other = json.loads((tmp_path / "result.json").read_text())
    write_json(tmp_path / "other.json", other | {"tasks": {"feet": other["tasks"]["hands"]}})
    with pytest.raises(ValueError, match=r"other.json has the tasks \['feet'\], but .* has \['hands'\]"):
        compare([tmp_path / "result.json", tmp_path / "other.json"])


@pytest.mark.slow
def test_folds_open_no_recording_of_validation_and_test_people(evaluation, manifest, tmp_path):
    table = pd.read_csv(manifest, dtype=str)
    table["file"] = [str(manifest.parent / file) for file in table["file"]]
    table.loc[table["split"] != "train", "file"] = "closed.fif"
    table.to_csv(tmp_path / "train_only.csv", index=False)
    result, printed = evaluation(
        "--folds", 3, "--fit", "ridge", "--choose_penalty", "--features", "mean", data=tmp_path / "train_only.csv"
    )
    hands = result["tasks"]["hands"]
    assert set(hands["predictions"]) == people_of(manifest, "train") and hands["people"] == 5
    assert hands["windows"]["train"] == hands["windows"]["scored"] and result["arguments"]["folds"] == 3
    with pytest.raises(ValueError, match="--folds leaves out people, but p300, imagery compare"):
        evaluation("--folds", 3, "--tasks", "p300", "imagery")


def test_people_whom_the_weights_have_seen_are_refused(evaluation, manifest, checkpoint, tmp_path, monkeypatch):
    (seen,) = people_of(manifest, "test")
    details = {"seconds": 60.0, "threads": 1, "machine": "a laptop", "commit": None, "command": "", "seeds": [0]}
    stage = TrainingStage("pre-training", [SeenDataset("x", 1, 9, 0.1)], [f"x/{seen}"], 7, 9, **details)
    folder = tmp_path / "trained"
    NeurIPTModel.from_pretrained(checkpoint).save_pretrained(folder)
    NeurIPTFeatureExtractor.from_pretrained(checkpoint).save_pretrained(folder)
    write_training_record(folder, TrainingRecord([stage]))
    with pytest.raises(ValueError, match=f"people that the weights have seen: x/{seen}"):
        evaluation(model=folder)
    result, printed = evaluation("--allow_seen_people", "--random_seeds", 0, model=folder)
    assert "- hands: 1 unseen people, 1 people whom the weights have seen" in printed
    assert result["tasks"]["hands"]["seen_people"] == [f"x/{seen}"] and result["weights"]["steps"] == 7
    assert "random" not in result["tasks"]["hands"]["differences"]
    with pytest.raises(ValueError, match="scores people of val and test, who decide nothing"):
        monkeypatch.setattr(sys, "argv", ["told_tasks.py", "--folds", str(tmp_path / "result.json")])
        told_tasks.main()
    (folder / "training.json").unlink()
    result, printed = evaluation("--random_seeds", 0, model=folder)
    assert result["weights"]["history"] == "unknown" and result["tasks"]["hands"]["tested_people"]["unseen"] == []
    assert "- hands: 2 people of whom nobody knows whether the weights have seen them" in printed


class Nearest(ClassifierMixin, BaseEstimator):
    """Knows by heart what it was fitted to; of anything else it says class 0."""

    def fit(self, values, labels):
        self.known = dict(zip(values[:, 0].tolist(), labels.tolist(), strict=True))
        return self

    def decision_function(self, values):
        return np.array([2.0 * self.known.get(value, 0) - 1 for value in values[:, 0].tolist()])


def test_no_fit_has_seen_the_person_that_it_scores():
    labels, people = np.tile([0, 1], 20), np.repeat(np.arange(8), 5)
    own = np.arange(40.0)[:, None]
    scores = held_out_scores(lambda x, y, who: Nearest().fit(x, y), own, labels, people, folds=4, seed=0)
    assert (scores.argmax(axis=1) == 0).all()
    shared = labels[:, None].astype(float)
    scores = held_out_scores(lambda x, y, who: Nearest().fit(x, y), shared, labels, people, folds=4, seed=0)
    assert (scores.argmax(axis=1) == labels).all()
    with pytest.raises(ValueError, match="do not have every class: use more folds"):
        held_out_scores(lambda x, y, who: Nearest().fit(x, y), own[:10], np.repeat([0, 1], 5), people[:10], 2, 0)


def windows(count=6, seed=0, labels=None):
    rng = np.random.default_rng(seed)
    rows = {
        "input_values": rng.normal(size=(count, 3, 64)).tolist(),
        "electrode_positions": rng.integers(0, 50, (count, 3, 3)).astype(float).tolist(),
        "lobe_mask": np.ones((count, 3, 5), dtype=bool).tolist(),
        "channel_mask": np.ones((count, 3), dtype=bool).tolist(),
        "attention_mask": np.ones((count, 64), dtype=bool).tolist(),
        "labels": [0] * count if labels is None else labels,
    }
    features = Features(
        {
            "input_values": List(List(Value("float32"))),
            "electrode_positions": List(List(Value("float32"))),
            "lobe_mask": List(List(Value("bool"))),
            "channel_mask": List(Value("bool")),
            "attention_mask": List(Value("bool")),
            "labels": ClassLabel(num_classes=2),
        }
    )
    return Dataset.from_dict(rows, features=features)


def test_windows_are_known_by_what_the_model_sees():
    data = windows()
    assert content(data) == content(windows(labels=[1] * 6)) == content(data.select(range(6)))
    order = data.select([1, 0, 2, 3, 4, 5])
    channels = data.map(lambda row: {"channel_mask": [True, False, True]}, keep_in_memory=True)
    transposed = data.map(lambda row: {"input_values": np.reshape(row["input_values"], (6, 32))}, keep_in_memory=True)
    others = (windows(seed=1), order, channels, transposed, data.select(range(5)))
    assert len({content(data), *map(content, others)}) == 6


def test_features_are_kept_for_the_same_weights_and_windows_only(tmp_path, monkeypatch):
    models = [NeurIPTModel(small_config()).eval() for _ in range(2)]
    data, others = windows(), windows(seed=1)
    expected = [pooled_features(model, data) for model in models]
    for model, features in zip(models, expected, strict=True):
        embed = Embedder(model, 4, tmp_path)
        np.testing.assert_allclose(embed(data), features, atol=1e-5)
        np.testing.assert_allclose(embed(others), pooled_features(model, others), atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 0.1

    looked_at = []

    def look(model, windows, **options):
        looked_at.append(len(windows))
        return pooled_features(model, windows, **options)

    monkeypatch.setattr(evaluate_features, "pooled_features", look)
    np.testing.assert_array_equal(Embedder(models[1], 4, tmp_path)(data), Embedder(models[1], 4, tmp_path)(data))
    assert looked_at == [4, 4]
    assert len(list(tmp_path.iterdir())) == 4 and not list(tmp_path.glob("*.part"))


def result_of(accuracies, within=False):
    ways = ("", ", centred") if "random, centred" in accuracies else ("",)
    differences = {f"random{way}": accuracies[f"checkpoint{way}"] - accuracies[f"random{way}"] for way in ways}
    task = {"within_subject": within}
    people = list(accuracies["checkpoint"].by_person)
    count = {"people": len(people), "windows": {"train": 9, "scored": 160}}
    count["channels_left_out"] = []
    count["tested_people"] = {"unseen": [] if within else people, "description": "8 people"}
    return {"task": task, "classes": ["a", "b"], "accuracies": accuracies, "differences": differences} | count


def test_kinds_of_tasks_have_means_of_their_own(monkeypatch, tmp_path):
    """Tasks within people, and tasks that no method tells, are reported and leave the means."""
    rng, people = np.random.default_rng(0), [f"p{number}" for number in range(8)]
    one, two = (
        AccuracyOverPeople(value, dict.fromkeys(people, value), rng.normal(value, 0.05, 100)) for value in (0.7, 0.6)
    )
    write_json(tmp_path / "told.json", {"tasks": {"adhd": {"told": True}, "epilepsy": {"told": False}}})
    monkeypatch.setattr(tasks, "TOLD", tmp_path / "told.json")
    both = {"checkpoint": one, "random": two, "random 0": two, "random 1": two}
    results = {
        "adhd": result_of({"checkpoint": two, "random": one}),
        "epilepsy": result_of({"checkpoint": one, "random": two}),
        "own runs": result_of({"checkpoint": one, "random": two}, within=True),
        "eyes": result_of(both | {f"{name}, centred": part for name, part in both.items()}),
    }
    plain = as_json(results)
    means, kinds = plain["overall"], plain["kinds"]
    assert means["minus random"]["value"] == pytest.approx(0) and means["checkpoint"]["value"] == pytest.approx(0.65)
    assert means["checkpoint, centred"]["value"] == pytest.approx(0.7)  # of the one task that has it
    assert [kind["minus random"]["value"] for kind in kinds.values()] == pytest.approx([0.1, -0.1])
    assert as_json({"own runs": results["own runs"]})["overall"] == {}
    lines = as_table(results).splitlines()
    assert lines[0] == "| task | people, windows | chance | checkpoint | random | minus random |"
    low, high = (one - two).interval
    spread = f"({two.value:.3f} to {two.value:.3f})"
    difference = f"{one.value - two.value:+.3f} ({low:+.3f} to {high:+.3f})"
    assert lines[2] == f"| eyes | 8, 160 | 0.500 | {one.value:.3f} | {two.value:.3f} {spread} | {difference} |"
    assert [line.split(" | ")[0] for line in lines[3:9]] == [
        "| mean, classes within recordings, of 1 tasks",
        "| adhd",
        "| mean, classes between files or people, of 1 tasks",
        "| mean of 2 tasks",
        "| epilepsy (no method tells, not in the means)",
        "| own runs (within person)",
    ]
    assert lines[14] == lines[2] and "mean of 1 tasks" in lines[16] and len(lines) == 17
    results["adhd"]["tested_people"] = {"unseen": people[1:], "description": "7 unseen people, 1 people who were seen"}
    results["eyes"]["channels_left_out"] = ["F1", "F2"]
    notes = as_table(results).splitlines()[10:12]
    assert notes[0] == "- adhd: 7 unseen people, 1 people who were seen"
    assert notes[1] == "- eyes: without F1, F2, which not every recording has"


def test_a_task_is_told_where_the_whole_interval_of_the_best_method_is_above_chance():
    def task(**accuracies):
        parts = {name: {"value": mean, "interval": [low, 1.0]} for name, (mean, low) in accuracies.items()}
        return {"classes": ["a", "b"], "accuracies": parts}

    assert told_tasks.told(task(checkpoint=(0.6, 0.51), random=(0.55, 0.4)))["told"]
    assert not told_tasks.told(task(checkpoint=(0.6, 0.50), random=(0.55, 0.52)))["told"]
    assert told_tasks.told(task(checkpoint=(0.6, 0.5), **{"random 1": (0.8, 0.7)}))["best"] == "checkpoint"


@pytest.mark.shared_data
def test_real_windows_are_those_of_the_protocol(shared_data):
    """First or second picture: trials of 1 s, 10 people to fit on, 4 to score; band power tells them."""
    pictures = manifest_task("pictures", str(shared_data / "manifest.csv"))
    extractor = make_extractor(pictures, None)
    splits = load_splits(pictures, extractor)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [592, 118, 120]
    assert [len(set(splits[name]["subject"])) for name in ("train", "validation", "test")] == [10, 2, 2]
    fit = band_power_baseline(64).fit(signals_in_microvolt(splits["train"], extractor), splits["train"]["labels"])
    decisions = fit.decision_function(signals_in_microvolt(splits["test"], extractor))
    assert AccuracyOverPeople.of(np.stack([-decisions, decisions], axis=1), splits["test"]).value > 0.55
