"""The comparison with random weights, as a user runs it, on simulated people and at the smallest size."""

import json
import sys
from contextlib import redirect_stdout
from functools import partial
from io import StringIO

import compare_pretraining
import figures
import numpy as np
import pandas as pd
import pytest
import tasks
import torch
from conftest import small_config
from datasets import ClassLabel, Dataset, Features, Value

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForPreTraining, save_checkpoint
from neuript_hf.checkpoints.training_record import SeenDataset, TrainingRecord, TrainingStage, write_training_record
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.evaluation.eegnet import EEGNetClassifier
from neuript_hf.training.finetuning import ModelArguments, draw_windows


METHODS = ("pre-trained + fit", "random", "EEGNet", "band power")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    model = NeurIPTForPreTraining(small_config(decoder_size=16))
    save_checkpoint(model, NeurIPTFeatureExtractor(montage="as_recorded"), folder)
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return simulate_dataset(tmp_path_factory.mktemp("recordings"), n_subjects=6, seed=0, n_trials=12)


@pytest.fixture(scope="module")
def compare(checkpoint, manifest):
    """Runs the program on the simulated task and returns what it printed."""

    def run(folder, *arguments):
        given = ("--model", checkpoint, "--data", manifest, "--tasks", "hands", "--methods", *METHODS)
        given += ("--output", folder / "compared", "--cells", folder / "cells", "--epochs", 2, "--evaluations", 2)
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
            hands = {"rows": [], "events": ["left_hand", "right_hand"], "montage": "C3,C4", "window_seconds": 1.0}
            patch.setitem(tasks.TASKS, "hands", hands)
            patch.setattr(compare_pretraining, "EEGNetClassifier", partial(EEGNetClassifier, steps=5))
            patch.setattr(sys, "argv", ["compare_pretraining.py", *map(str, given + arguments)])
            compare_pretraining.main()
        return printed.getvalue()

    return run


@pytest.fixture(scope="module")
def compared(compare, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    return folder, compare(folder, "--shares", 1, 0.5, "--seeds", 0, 1)


@pytest.mark.slow
def test_a_comparison_and_its_files(compared):
    folder, printed = compared
    results = json.loads((folder / "compared.json").read_text())
    curves = pd.read_csv(folder / "compared_curves.csv")
    predictions = pd.read_csv(folder / "compared_predictions.csv")
    assert "100% of the labels" in printed and "50% of the labels" in printed and results["table"] in printed
    figures.comparison(results)
    assert not list(folder.glob("**/*.part"))
    assert results["seeds"] == [0, 1] and results["weights"]["sha256"] and results["provenance"]["versions"]

    whole, half = (results["shares"][share]["tasks"]["hands"] for share in ("1", "0.5"))
    assert whole["windows"]["train"] == 48 and half["windows"]["train"] == 24
    assert whole["people"] == 2 and len(predictions) == 2 * whole["windows"]["scored"]
    for (share, method), line in curves.groupby(["share", "method"]):
        assert set(line["step"]) == {0, 3, 6}, (share, method)  # as many steps with half of the labels
    # the numbers of the three files are the same ones
    for seed, part in predictions.groupby("seed"):
        for method in METHODS:
            right = part[f"{method} at 1"] == part["labels"]
            accuracy = right.groupby(part["labels"]).mean().mean()
            assert whole["by_seed"][method][seed] == pytest.approx(accuracy)
            if method in compare_pretraining.FINE_TUNED:
                last = curves.query("share == 1 and method == @method and seed == @seed and step == 6")
                assert last["balanced_accuracy"].item() == pytest.approx(accuracy, abs=1e-4)
    for name, difference in whole["differences"].items():
        one, other = name.split(" minus ")
        assert difference["value"] == pytest.approx(np.mean(whole["by_seed"][one]) - np.mean(whole["by_seed"][other]))
        low, high = difference["interval"]
        assert low <= high


@pytest.mark.slow
def test_what_is_done_is_not_done_again(compared, compare):
    folder, _ = compared
    cells = sorted((folder / "cells").glob("*.json"))
    assert len(cells) == len(METHODS) * 2 * 2
    lost = folder / "cells" / "hands_random_0.5_1.json"
    before = {cell: (cell.stat().st_mtime_ns, cell.read_text()) for cell in cells}
    lost.unlink()
    printed = compare(folder, "--shares", 1, 0.5, "--seeds", 0, 1)
    assert printed.count(" after ") == 1 and "hands_random_0.5_1" in printed
    for cell in cells:
        if cell != lost:
            assert (cell.stat().st_mtime_ns, cell.read_text()) == before[cell]
    assert json.loads(lost.read_text())["scores"] == json.loads(before[lost][1])["scores"]  # and to the same numbers
    with pytest.raises(ValueError, match="hands_pre-trained-fit_1_0.json was made with other settings of epochs"):
        compare(folder, "--shares", 1, "--seeds", 0, "--epochs", 3)


def test_folds_leave_val_and_test_closed(compare, manifest, tmp_path):
    compare(tmp_path, "--folds", 2, "--seeds", 0, 1, "--shares", 1, "--methods", "band power")
    table = pd.read_csv(manifest)
    scored = pd.read_csv(tmp_path / "compared_predictions.csv")
    assert set(scored["subject"]) == set(table.loc[table["split"] == "train", "subject"])
    by_seed = scored.groupby("seed")["subject"].agg(set)
    assert not by_seed[0] & by_seed[1]  # each fold by itself


def test_people_whom_the_weights_have_seen_are_refused(compare, checkpoint, manifest, tmp_path):
    table = pd.read_csv(manifest)
    person = table.loc[table["split"] == "test", "subject"].item()
    seen = TrainingStage(
        kind="pre-training",
        datasets=[SeenDataset("simulated", 1, 10, 0.1)],
        subjects=[f"simulated/{person}"],
        **{"steps": 1, "windows_seen": 1, "seconds": 1.0, "threads": 1, "machine": "any", "commit": None},
        **{"command": "", "seeds": [0]},
    )
    file = write_training_record(checkpoint, TrainingRecord([seen]))
    try:
        with pytest.raises(ValueError, match=f"the weights have seen: simulated/{person}"):
            compare(tmp_path)
    finally:
        file.unlink()
    assert not list(tmp_path.iterdir())


def test_unknown_methods_and_shares():
    with pytest.raises(ValueError, match=r"one of pre-trained \+ fit, .* but there are \['magic'\]"):
        compare_pretraining.ComparisonArguments("model", "data", methods=["magic"])
    with pytest.raises(ValueError, match=r"at most 1 \(all labels\), but are \[0.0\]"):
        compare_pretraining.ComparisonArguments("model", "data", shares=[0.0])
    with pytest.raises(ValueError, match=r"at most 1 \(all windows\), but is 2"):
        ModelArguments(train_share=2)


def people(counts):
    """A window for each entry of person -> class -> count."""
    rows = [(person, label) for person, classes in counts.items() for label, n in classes.items() for _ in range(n)]
    features = Features({"subject": Value("string"), "labels": ClassLabel(num_classes=2), "row": Value("int64")})
    return Dataset.from_list(
        [{"subject": person, "labels": label, "row": row} for row, (person, label) in enumerate(rows)], features
    )


def test_fewer_labels_of_all_people():
    data = people({name: {0: 10 + 5 * number, 1: 20} for number, name in enumerate("abcd")})
    drawn = {count: draw_windows(data, count, seed=3) for count in (4, 8, 40, len(data))}
    assert [len(draw) for draw in drawn.values()] == list(drawn)
    table = drawn[8].to_pandas()
    assert (table.groupby(["subject", "labels"]).size() == 1).all()
    assert (drawn[40].to_pandas().groupby(["subject", "labels"]).size() == 5).all()
    assert set(drawn[4]["subject"]) == set("abcd")
    rows = [set(draw["row"]) for draw in drawn.values()]
    assert rows[0] < rows[1] < rows[2] < rows[3]
    assert drawn[len(data)]["row"] == data["row"]  # all of them, as they were
    assert set(draw_windows(data, 8, seed=4)["row"]) != rows[1]


def test_fewer_labels_where_a_person_has_one_class():
    data = people({"a": {0: 30}, "b": {1: 30}, "c": {0: 2}})
    table = draw_windows(data, 10, seed=0).to_pandas()
    assert table.groupby("subject").size().to_dict() == {"a": 4, "b": 4, "c": 2}
