"""Targets of every kind from manifests, folders and annotations, to the windows and their use."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_window, write_recording
from datasets import ClassLabel, Dataset, load_from_disk

from neuript_hf import DataCollatorForEEG, NeurIPTFeatureExtractor, load_recordings
from neuript_hf.data.manifest import read_table
from neuript_hf.data.targets import Targets
from neuript_hf.training.finetuning import ModelArguments, draw_windows, make_classifier, task_config


CHANNELS = ["C3", "Cz", "C4", "Pz"]
EXTRACTOR = NeurIPTFeatureExtractor(montage=CHANNELS, window_seconds=2.0)
ONE_CLASS, SEVERAL, NUMBERS = "single_label_classification", "multi_label_classification", "regression"
LABELS = {
    "artefacts": ["eye; muscle", "muscle", ";", "eye", "muscle", "eye"],
    "eye": [1, 0, 0, 1, 0, 1],
    "muscle": [1, 1, 0, 0, 1, 1],
    "age": [23.5, 41, 67.25, 30, 55, 71],
    "iq": [101, 99.5, 120, 88, 90, 100],
    "hand": ["left", "right", "left", "right", "left", "right"],
    "weight": ["70,5", "61", "80,25", "55", "90", "66"],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Six people with a recording of two windows each; the last two are for test."""
    folder = tmp_path_factory.mktemp("targets")
    files = [write_recording(folder / f"p{k}_raw.fif", k, seconds=4.0).name for k in range(6)]
    rows = {"file": files, "subject": [f"p{k}" for k in range(6)], "split": ["train"] * 4 + ["test"] * 2}
    pd.DataFrame(rows | LABELS).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@pytest.mark.parametrize(
    ("columns", "problem_type", "names", "first", "last"),
    [
        ("hand", None, ["left", "right"], 0, 1),
        ("artefacts", SEVERAL, ["eye", "muscle"], [True, True], [False, False]),
        (["muscle", "eye"], None, ["muscle", "eye"], [True, True], [False, False]),
        (["eye", "muscle"], NUMBERS, ["eye", "muscle"], [1.0, 1.0], [0.0, 0.0]),
        ("age", NUMBERS, ["age"], 23.5, 67.25),
        (["age", "iq"], NUMBERS, ["age", "iq"], [23.5, 101.0], [67.25, 120.0]),
        (["age"], NUMBERS, ["age"], 23.5, 67.25),
    ],
)
def test_columns_of_a_manifest(manifest, tmp_path, columns, problem_type, names, first, last):
    """The names stay with the windows, whatever is done to them, and the model and its batches follow from them."""
    train = load_recordings(manifest, EXTRACTOR, label_column=columns, problem_type=problem_type)["train"]
    assert len(train) == 8
    train = train.select(range(6)).filter(lambda row: True)
    train.save_to_disk(tmp_path / "windows")
    train = load_from_disk(tmp_path / "windows")
    targets = Targets.of(train)
    assert targets.names == names and targets.problem_type == (
        problem_type or (ONE_CLASS if columns == "hand" else SEVERAL)
    )
    assert train["labels"][0] == first and train["labels"][3 if columns == "hand" else 5] == last
    model = make_classifier(ModelArguments(config='{"hidden_size": 16, "num_attention_heads": 2}'), train, EXTRACTOR)
    assert list(model.config.id2label.values()) == names and model.config.problem_type == targets.problem_type
    batch = DataCollatorForEEG()([train[0], train[5]])
    outputs = model(**batch)
    assert outputs.loss.isfinite() and outputs.logits.shape == (2, len(names))


def test_ages_start_at_their_mean_and_are_learned_in_units_of_their_spread(manifest):
    train = load_recordings(manifest, EXTRACTOR, label_column="age", problem_type=NUMBERS)["train"]
    fields = task_config(train, EXTRACTOR)
    ages = np.array([23.5, 41, 67.25, 30])
    assert fields["target_mean"] == pytest.approx([ages.mean()]) and fields["target_scale"] == pytest.approx(
        [ages.std()]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"label_column": "artefacts"},
            "such as ';' may be one class or several labels. .*'multi_label_classification'",
        ),
        ({"label_column": "age"}, "23.5 may be classes or numbers to predict. .*'regression'"),
        ({"label_column": ["age", "iq"]}, r"'23.5', '101.0'\) may be labels or numbers"),
        ({"label_column": ["age", "iq"], "problem_type": SEVERAL}, "must hold 1 for recordings that have it, else 0"),
        ({"label_column": ["eye", "muscle"], "problem_type": ONE_CLASS}, "One class for each window needs one label"),
        ({"label_column": "hand", "problem_type": NUMBERS}, "'left' is not a number to predict"),
        ({"label_column": "weight", "problem_type": NUMBERS}, "'70,5' .*: a decimal point is expected, as in 23.5"),
        ({"label_column": "weight"}, "such as 70,5 may be classes or numbers to predict. .*'regression'"),
        ({"label_column": "age", "problem_type": "regresion"}, "Did you mean 'regression'"),
        ({"label_column": "hand", "problem_type": "classes"}, "problem_type must be one of single_label"),
        (
            {"label_column": ["age", "height"], "problem_type": NUMBERS},
            "no column 'height'; the manifest has file, subject, split, artefacts, .*Did you mean 'weight'",
        ),
        ({"label_column": None, "problem_type": NUMBERS}, "there are no labels: give label_column or events"),
        (
            {"label_column": "iq", "problem_type": ONE_CLASS},
            "no window of the classes or labels .*problem_type='regression'",
        ),
    ],
)
def test_what_is_not_clear_is_refused_before_recordings_are_read(manifest, arguments, words):
    with pytest.raises(ValueError, match=words):
        load_recordings(manifest, EXTRACTOR, **arguments)


@pytest.mark.parametrize(
    ("entries", "problem_type"),
    [(["left", "right", "Left "], None), (["eye;muscle", "Eye"], SEVERAL), (["two  words", "two words"], ONE_CLASS)],
)
def test_one_label_in_two_spellings_is_refused(entries, problem_type):
    with pytest.raises(ValueError, match="differ in capitals or blanks only"):
        Targets.of_entries(entries, ["label"], problem_type)
    alike = [" ".join(entry.split()).lower() for entry in entries]
    assert len(Targets.of_entries(alike, ["label"], problem_type).names) < 3, "as the error advises"


def test_the_advice_of_the_refusals_leads_to_the_right_labels(manifest):
    """Those of several labels and of numbers are tested above."""
    splits = load_recordings(manifest, EXTRACTOR, label_column="artefacts", problem_type=ONE_CLASS)
    assert splits["train"].features["labels"].names == [";", "eye", "eye; muscle", "muscle"]


def test_json_manifests_may_hold_lists(manifest):
    other = manifest.with_suffix(".jsonl")
    table = pd.read_csv(manifest)
    table["labels"] = [["eye", "muscle"], ["muscle"], [], ["eye"], ["muscle"], ["eye"]]
    table["place"] = [[0.5, 1], [1, 2], [2, 3.5], [0, 0], [1, 1], [2, 2]]
    table.to_json(other, orient="records", lines=True)
    arguments = {"label_column": "labels", "problem_type": SEVERAL}
    assert load_recordings(other, EXTRACTOR, **arguments)["train"]["labels"][4] == [False, False]
    splits = load_recordings(other, EXTRACTOR, label_column="place", problem_type=NUMBERS)
    assert splits["train"]["labels"][5] == [2.0, 3.5] and Targets.of(splits["train"]).names == ["place_0", "place_1"]


def test_a_folder_without_a_manifest_has_no_columns(tmp_path):
    write_recording(tmp_path / "left" / "sub-1_raw.fif", 1, 4.0)
    with pytest.raises(ValueError, match="no column to take labels from, but label_column is 'age'"):
        read_table(tmp_path, label_column="age")


@pytest.fixture
def annotated(tmp_path):
    """Three people: an eye artefact that overlaps a muscle artefact, one alone, clean time, and a rating."""
    annotations = [
        (2.0, 3.0, "blink"),
        (4.5, 1.0, "chew"),
        (10.0, 0.0, "blink"),
        (14.0, 2.0, "clean"),
        (18.0, 0, "good"),
    ]
    for person in range(3):
        write_recording(
            tmp_path / f"p{person}_raw.fif", person, 24.0, annotations=[*annotations, (22.0, 0, "bad sleep")]
        )
    rows = [
        {"file": f"p{k}_raw.fif", "subject": f"p{k}", "split": split}
        for k, split in enumerate(["train"] * 2 + ["test"])
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


def test_a_window_has_the_labels_of_all_annotations_that_it_overlaps(annotated):
    """Also where two begin at once: one window, with both. `;` says that a window has none of the labels."""
    events = {"blink": "eye", "chew": ["muscle", "jaw"], "clean": ";"}
    test = load_recordings(annotated, EXTRACTOR, events=events, problem_type=SEVERAL, stride_seconds=1.0)["test"]
    assert Targets.of(test).names == ["eye", "muscle", "jaw"]
    assert dict(zip(test["onset"], test["labels"], strict=True)) == {
        2.0: [True, False, False],
        3.0: [True, True, True],
        4.5: [True, True, True],
        10.0: [True, False, False],
        14.0: [False, False, False],
    }
    later = load_recordings(annotated, EXTRACTOR, events=events, problem_type=SEVERAL, event_offset_seconds=2.5)[
        "test"
    ]
    assert later["labels"][2] == [True, False, False], "the window behind an annotation keeps its label"


def test_annotations_may_stand_for_numbers(annotated):
    test = load_recordings(annotated, EXTRACTOR, events={"good": 7.5, "clean": "3"}, problem_type=NUMBERS)["test"]
    assert test["labels"] == [3.0, 7.5] and Targets.of(test).names == ["value"]


def test_a_window_with_two_classes_is_refused(tmp_path):
    for k in range(2):
        write_recording(tmp_path / f"p{k}_raw.fif", k, 8.0, annotations=[(2.0, 0, "left"), (2.0, 0, "feedback")])
    rows = [{"file": f"p{k}_raw.fif", "subject": f"p{k}", "split": split} for k, split in enumerate(["train", "test"])]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(ValueError, match="two annotations at 2 s give one window different labels: (left|feedback)"):
        load_recordings(tmp_path, EXTRACTOR, events=["left", "feedback"])
    both = load_recordings(tmp_path, EXTRACTOR, events=["left", "feedback"], problem_type=SEVERAL)["test"]
    assert both["labels"] == [[True, True]]


def windows_with(labels):
    return Dataset.from_list([make_window(seed=k, labels=label) for k, label in enumerate(labels)])


@pytest.mark.parametrize(
    ("labels", "problem_type", "inferred", "names"),
    [
        ([0, 2, 1], None, ONE_CLASS, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ([0.5, 2.0, 1.0], None, NUMBERS, ["LABEL_0"]),
        ([20, 30, 40], NUMBERS, NUMBERS, ["LABEL_0"]),
        ([[1.0, 0.0], [0.0, 0.0]], None, SEVERAL, ["LABEL_0", "LABEL_1"]),
        ([[1.0, 0.0], [0.0, 0.0]], NUMBERS, NUMBERS, ["LABEL_0", "LABEL_1"]),
    ],
)
def test_data_sets_from_elsewhere(labels, problem_type, inferred, names):
    targets = Targets.of(windows_with(labels), problem_type)
    assert targets.problem_type == inferred and targets.names == names


def test_data_sets_whose_labels_are_unclear_are_refused():
    with pytest.raises(ValueError, match=r"class_encode_column\('labels'\) makes classes"):
        Targets.of(windows_with(["left", "right"]))
    with pytest.raises(ValueError, match="needs a column labels of classes"):
        Targets.of(windows_with([None, None]).remove_columns("labels"))
    classes = windows_with(["left", "right"]).class_encode_column("labels")
    assert isinstance(classes.features["labels"], ClassLabel) and Targets.of(classes).names == ["left", "right"]
    with pytest.raises(ValueError, match="which is for problem_type single_label_classification, not regression"):
        make_classifier(ModelArguments(config='{"problem_type": "regression"}'), classes, EXTRACTOR)
    with pytest.raises(ValueError, match="LABEL_0 is the same number in all 2 training windows"):
        task_config(windows_with([0.5, 0.5]), EXTRACTOR)


@pytest.mark.parametrize("labels", [[0, 1] * 4, [0.5, 1.5] * 4, [[True, False], [True, True]] * 4])
def test_drawn_windows_are_spread_over_the_labels_of_each_person(labels):
    data = windows_with(labels).add_column("subject", ["a"] * 4 + ["b"] * 4)
    drawn = draw_windows(data, 4, seed=0)
    assert {(row["subject"], str(row["labels"])) for row in drawn} == {
        (row["subject"], str(row["labels"])) for row in data
    }
