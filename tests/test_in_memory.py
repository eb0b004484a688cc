"""Recordings that are open already -> labelled windows, and an evaluation that knows whom the weights have seen."""

import mne
import numpy as np
import pandas as pd
import pytest
from conftest import small_config
from transformers import TrainingArguments

from neuript_hf import (
    FineTuningArguments,
    NeurIPTFeatureExtractor,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
    NeurIPTTrainer,
    evaluate,
    load_recordings,
    save_checkpoint,
    start_from_fit,
    task_config,
)
from neuript_hf.checkpoints.recorder import HEAD_FIT
from neuript_hf.data.windows import channel_reports
from neuript_hf.training.finetuning import ModelArguments, frozen_against_fine_tuned


CHANNELS = ["C3", "Cz", "C4", "Pz"]
RATE, PEOPLE = 128, list("abcde")
EXTRACTOR = NeurIPTFeatureExtractor(montage=CHANNELS, window_seconds=2.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def raws():
    """Five people, 16 s each, with eight annotations that alternate."""
    made = []
    for number in range(5):
        signal = np.random.default_rng(number).normal(0, 2e-5, (4, 16 * RATE))
        raw = mne.io.RawArray(signal, mne.create_info(CHANNELS, RATE, "eeg"))
        raw.set_annotations(mne.Annotations(2.0 * np.arange(8), 0.0, ["left", "right"] * 4))
        made.append(raw)
    return made


@pytest.fixture(scope="module")
def epochs(raws):
    found = []
    for raw in raws:
        events, event_id = mne.events_from_annotations(raw)
        settings = {"tmin": 0, "tmax": 1 - 1 / RATE, "baseline": None, "preload": True}
        found.append(mne.Epochs(raw, events, event_id, **settings))
    return found


def labels_of(split):
    return [split.features["labels"].names[label] for label in split["labels"]]


def test_epochs_have_the_labels_of_their_events_and_are_whole_windows(epochs):
    splits = load_recordings(epochs, EXTRACTOR, subjects=PEOPLE)
    assert {name: len(split) for name, split in splits.items()} == {"train": 24, "validation": 8, "test": 8}
    assert np.shape(splits["train"][0]["input_values"]) == (4, 64)
    for split in splits.values():
        assert labels_of(split) == ["left", "right"] * (len(split) // 2)
    person = splits["test"][0]["subject"]
    expected = EXTRACTOR(epochs[PEOPLE.index(person)])["input_values"]
    assert np.array_equal(np.array(splits["test"]["input_values"]), expected)
    assert channel_reports(splits["test"]).keys() == {f"recording {PEOPLE.index(person)}"}


def test_epochs_of_several_people_in_one_object(epochs):
    people = np.repeat(PEOPLE, 8)
    splits = dict(zip(PEOPLE, ["train", "train", "train", "val", "test"], strict=True))
    whole = mne.concatenate_epochs(epochs)
    whole.metadata = pd.DataFrame({"subject": people})
    together = load_recordings(whole, EXTRACTOR, splits=splits)
    apart = load_recordings(epochs, EXTRACTOR, subjects=PEOPLE, splits=splits)
    for name, split in apart.items():
        assert split["input_values"][:] == together[name]["input_values"][:]
        assert split["labels"][:] == together[name]["labels"][:]
        assert split["subject"][:] == together[name]["subject"][:]


def test_arrays_with_labels_of_windows_and_numbers_to_predict(epochs):
    signals, people = np.concatenate([part.get_data() for part in epochs]), np.repeat(PEOPLE, 8)
    numbers = np.linspace(20.5, 60.5, len(signals))
    about = {"sampling_rate": RATE, "channel_names": CHANNELS, "unit": "V"}
    loaded = load_recordings(signals, EXTRACTOR, subjects=people, labels=numbers, problem_type="regression", **about)
    of_person = dict(zip(PEOPLE, np.split(numbers, 5), strict=True))
    for split in loaded.values():
        expected = np.concatenate([of_person[person] for person in dict.fromkeys(split["subject"])])
        assert np.allclose(split["labels"], expected)
    with pytest.raises(ValueError, match="needs sampling_rate, channel_names, unit"):
        load_recordings(signals, EXTRACTOR, subjects=people, labels=numbers)


def test_windows_shorter_than_epochs_have_the_labels_of_their_epochs(epochs):
    split = load_recordings(
        epochs, EXTRACTOR, subjects=PEOPLE, window_seconds=0.5, split_shares=(1.0, 0.0, 0.0), trust_manifest=True
    )["train"]
    assert len(split) == 80 and labels_of(split)[:4] == ["left", "left", "right", "right"]


def test_continuous_recordings_with_events_or_one_label(raws):
    splits = load_recordings(raws, EXTRACTOR, subjects=PEOPLE, events={"left": "hand", "right": "hand"})
    assert labels_of(splits["test"]) == ["hand"] * 8 and np.shape(splits["test"][0]["input_values"]) == (4, 128)
    whole = load_recordings(raws, EXTRACTOR, subjects=PEOPLE, labels=list("xxyyx"), split_shares=(1.0, 0.0, 0.0))
    assert labels_of(whole["train"]) == ["x"] * 16 + ["y"] * 16 + ["x"] * 8


def test_some_events_of_epochs_under_other_names(epochs):
    splits = load_recordings(epochs, EXTRACTOR, subjects=PEOPLE, events={"left": "A"}, split_shares=(1.0, 0.0, 0.0))
    assert len(splits["train"]) == 20 and set(labels_of(splits["train"])) == {"A"}


def test_a_bids_path_names_its_person(raws, tmp_path):
    mne_bids = pytest.importorskip("mne_bids")
    paths = []
    for number, raw in enumerate(raws):
        path = mne_bids.BIDSPath(subject=f"{number}", task="hands", root=tmp_path, datatype="eeg")
        mne_bids.write_raw_bids(
            raw.copy().set_meas_date(None), path, allow_preload=True, format="BrainVision", verbose="ERROR"
        )
        paths.append(path.update(extension=".vhdr", suffix="eeg"))
    split = load_recordings(paths, EXTRACTOR, events=["left", "right"], split_shares=(1.0, 0.0, 0.0))["train"]
    assert set(split["subject"]) == set("01234") and labels_of(split)[:2] == ["left", "right"]


def test_what_is_missing_is_named(raws, epochs):
    for source, given, message in (
        (raws, {}, "subjects must name the person of each recording"),
        (raws, {"subjects": PEOPLE}, "there is no label. Give labels, or events"),
        (epochs, {"subjects": ["subject"] * 5}, "All of it is of one person, 'subject'"),
        (epochs, {"subjects": PEOPLE[:4]}, "subjects must have an entry for each of 5 recordings, but has 4"),
        (epochs, {"subjects": PEOPLE, "labels": [[0, 1]] * 5}, "one for each of 8 epochs, but has 2"),
        (epochs, {"subjects": PEOPLE, "splits": {"a": "train"}}, "does not name b, c, d, e"),
        (epochs, {"subjects": PEOPLE, "events": ["up"]}, r"no epoch is of the events \['up'\]; there are"),
        ([], {}, "no recording in the list"),
        ("manifest.csv", {"subjects": PEOPLE}, "A manifest has columns for subjects"),
    ):
        with pytest.raises(ValueError, match=message):
            load_recordings(source, EXTRACTOR, **given)


def test_one_recording_under_two_names_is_refused(epochs):
    with pytest.raises(ValueError, match="Two rows hold the same samples"):
        load_recordings([epochs[0], *epochs[:4]], EXTRACTOR, subjects=PEOPLE)


def test_scores_of_people_whom_the_weights_have_not_seen(epochs, tmp_path):
    """From epochs to a score; the training is in the record, so its people are refused afterwards."""
    windows = load_recordings(epochs, EXTRACTOR, subjects=PEOPLE, dataset="mine")
    model = NeurIPTForSequenceClassification(small_config(num_labels=2, **task_config(windows["train"], EXTRACTOR)))
    arguments = TrainingArguments(tmp_path / "run", max_steps=1, use_cpu=True, logging_steps=1, report_to="none")
    start_from_fit(model, windows["train"], penalty=1.0)
    assert [stage["kind"] for stage in model.training_record["stages"]] == [HEAD_FIT]
    with pytest.raises(ValueError, match="people that the weights have seen"):
        evaluate(model, windows["train"])
    trainer = NeurIPTTrainer(model, arguments, train_dataset=windows["train"], processing_class=EXTRACTOR)
    trainer.train()
    (step,) = (entry for entry in trainer.state.log_history if "task_loss" in entry)
    experts = model.config.router_aux_loss_coef * step["aux_loss"]
    assert step["task_loss"] + experts == pytest.approx(step["loss"], rel=1e-3)

    result = evaluate(model, windows["test"], train=windows["train"], extractor=EXTRACTOR)
    (person,) = set(windows["test"]["subject"])
    assert result.people.unseen == [person] and result.to_dict()["people"]["unseen"] == [person]
    assert 0 <= result.model["balanced_accuracy"] <= 1 and result.baseline["windows"] == 8
    text = str(result)
    assert "1 unseen people, 8 windows, chance 0.500" in text and f"Each of them: {person} " in text
    assert [stage["kind"] for stage in model.training_record["stages"]] == ["training"]
    with pytest.raises(ValueError, match="people that the weights have seen"):
        evaluate(model, windows["train"])
    with pytest.raises(ValueError, match="8 of the windows to score are among those to train on"):
        evaluate(model, windows["test"], train=windows["test"], extractor=EXTRACTOR)
    allowed = evaluate(model, windows["train"], allow_seen_people=True)
    assert len(allowed.people.seen) == 3 and allowed.baseline is None
    renamed = windows["test"].cast_column("labels", windows["test"].features["labels"].__class__(names=["up", "down"]))
    with pytest.raises(ValueError, match="distinguishes left, right, the windows have up, down"):
        evaluate(model, renamed)


def test_frozen_fit_against_fine_tuning_by_folds(epochs, tmp_path):
    """Both are scored on training people left out; without a step of training the head keeps the fit."""
    train = load_recordings(epochs, EXTRACTOR, subjects=PEOPLE, split_shares=(1.0, 0.0, 0.0))["train"]
    checkpoint = tmp_path / "checkpoint"
    save_checkpoint(NeurIPTModel(small_config(num_labels=2)), EXTRACTOR, checkpoint)
    start = ModelArguments(model=str(checkpoint), choose_by_folds=2)
    arguments = FineTuningArguments(tmp_path / "run", num_train_epochs=0, use_cpu=True)
    assert arguments.learning_rate == 3e-4 and arguments.lr_scheduler_type == "cosine"
    scores = frozen_against_fine_tuned(start, train, EXTRACTOR, arguments)
    assert len(scores["frozen"]) == 2 and scores["frozen"] == scores["fine_tuned"]
    arguments.num_train_epochs, arguments.learning_rate, arguments.warmup_steps = 5, 0.1, 0
    scores = frozen_against_fine_tuned(start, train, EXTRACTOR, arguments)
    assert scores["frozen"] != scores["fine_tuned"] and all(0 <= score <= 1 for score in scores["fine_tuned"])
    for wrong in ({"choose_by_folds": 1}, {"choose_by_folds": 2, "head_start": False}):
        with pytest.raises(ValueError, match="choose_by_folds must be 2 or more, and head_start true"):
            ModelArguments(model=str(checkpoint), **wrong)
