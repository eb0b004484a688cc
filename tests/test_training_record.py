"""What weights have seen: the record travels, keeps everyone, and people seen are refused by name."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from tasks import manifest_task
from transformers import EarlyStoppingCallback, TrainingArguments

from neuript_hf import NeurIPTFeatureExtractor, prepare_dataset
from neuript_hf.checkpoints.benchmarks import BENCHMARK_OVERLAPS, overlapping_benchmarks
from neuript_hf.checkpoints.provenance import machine_name
from neuript_hf.checkpoints.tested_people import TestedPeople, without_chosen_on
from neuript_hf.checkpoints.training_record import (
    SeenDataset,
    TrainingRecord,
    TrainingStage,
    choices_on_validation,
    history_known,
    read_training_record,
    refuse_seen,
    seen_in_shards,
    seen_in_training,
    seen_people,
    write_training_record,
)
from neuript_hf.data.descriptions import list_descriptions, read_description
from neuript_hf.data.preparation import RejectionRules
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.data.tasks import TaskArguments, load_task, task_table


def stage(*subjects, kind="pre-training"):
    names = sorted({subject.split("/")[0] for subject in subjects})
    datasets = [SeenDataset(name, people=1, windows=10, hours=0.5, licence="CC0-1.0") for name in names]
    details = {"seconds": 60.0, "threads": 1, "machine": "a laptop", "commit": "abc1234", "command": "python x.py"}
    return TrainingStage(kind, datasets, list(subjects), steps=5, windows_seen=40, seeds=[0], recipe={}, **details)


def test_a_record_comes_back_as_it_was_written(tmp_path):
    assert read_training_record(tmp_path) is None
    record = TrainingRecord([stage("tusz/01", "siena/02")])
    assert write_training_record(tmp_path / "weights", record).name == "training.json"
    assert read_training_record(tmp_path / "weights") == record
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["training.json"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"stages": [{"kind": "x", "datasets": []}]}', '{"stages": ['])
def test_another_file_is_no_record(tmp_path, content):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(ValueError, match="is not a training record.* Expected .*list `stages`"):
        read_training_record(tmp_path)


def test_weights_that_go_on_forget_nobody():
    record = TrainingRecord([stage("tusz/01", "siena/02"), stage("mine/07", "tusz/01", kind="fine-tuning")])
    assert record.subjects == ["mine/07", "siena/02", "tusz/01"]
    assert record.dataset_names == ["mine", "siena", "tusz"]


RECORD = TrainingRecord([stage("tusz/01", "siena/02", "eegmat/eegmat-03")])


@pytest.mark.parametrize(
    ("subjects", "dataset", "seen"),
    [
        (["tusz/01", "tusz/02"], None, ["tusz/01"]),
        (["01", "02"], "tusz", ["tusz/01"]),
        (["01", "03"], "siena", []),  # 01 of another set
        (["eegmat/eegmat-03"], "tusz", ["eegmat/eegmat-03"]),  # what stands in front goes before `dataset`
        (["eegmat-03", "eegmat-04"], "eegmat", ["eegmat/eegmat-03"]),
        (["eegmat-03"], None, ["eegmat/eegmat-03"]),
        (["eegmat-03"], "copy", []),
        (["01", "02"], None, ["siena/02", "tusz/01"]),  # nobody knows which set: any may be meant
        (["sub-01"], "TUSZ", ["tusz/01"]),
        (["1", "001"], None, ["tusz/01"]),
        (["sub-3", "EEGMAT 03"], "eegmat", ["eegmat/eegmat-03"]),
        (["mental_arithmetic/3"], None, ["eegmat/eegmat-03"]),  # the same public recordings under another name
        (["11", "A01", "B01"], "tusz", []),
        ([], None, []),
    ],
)
def test_who_has_been_seen(subjects, dataset, seen):
    assert seen_people(RECORD, subjects, dataset) == seen


def test_without_a_record_nobody_is_known():
    assert seen_people(None, ["tusz/01"]) == []


def test_people_who_were_recorded_without_a_data_set_are_found_in_any():
    record = TrainingRecord([stage("S01")])
    assert seen_people(record, ["1", "here/01"]) == seen_people(record, ["sub-1"], "here") == ["S01"]
    assert seen_people(record, ["11", "here/A01"]) == []


def test_an_adapter_has_seen_the_people_of_its_base(tmp_path):
    write_training_record(tmp_path / "base", RECORD)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(tmp_path / "base")})
    )
    record = read_training_record(tmp_path / "adapter")
    assert record.subjects == RECORD.subjects and not record.complete and RECORD.complete
    assert not history_known(record) and not history_known(None) and history_known(RECORD)
    write_training_record(tmp_path / "adapter", TrainingRecord([*RECORD.stages, stage("mine/07")]))
    assert read_training_record(tmp_path / "adapter").complete


@pytest.mark.parametrize(
    ("arguments", "callbacks", "choices"),
    [
        ({}, [], []),
        ({"eval_strategy": "epoch", "metric_for_best_model": "loss"}, [], []),
        ({"load_best_model_at_end": True}, [], ["load_best_model_at_end"]),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"}, [], ["reduce_lr_on_plateau"]),
        ({}, [EarlyStoppingCallback()], ["early stopping"]),
    ],
)
def test_people_on_whom_a_training_chooses_are_recorded(tmp_path, arguments, callbacks, choices):
    """Not those of an evaluation that is only looked at."""
    if "load_best_model_at_end" in arguments:
        arguments |= {"eval_strategy": "epoch", "save_strategy": "epoch"}
    training = TrainingArguments(str(tmp_path), use_cpu=True, **arguments)
    assert choices_on_validation(training, callbacks) == choices
    people = Dataset.from_dict({"subject": ["4", "5", "4"]})
    for evaluated in (people, {"one": people.select([0]), "other": people.select([1])}):
        trainer = SimpleNamespace(
            args=training,
            callback_handler=SimpleNamespace(callbacks=callbacks),
            state=SimpleNamespace(global_step=7),
            eval_dataset=evaluated,
        )
        seen = [SeenDataset("mine", 1, 9, 0.1)], ["mine/1"]
        recorded = TrainingStage.of(trainer, "fine-tuning", seen, 9, 1.0, {})
        assert recorded.chosen_on == (["mine/4", "mine/5"] if choices else []) and recorded.subjects == ["mine/1"]
        write_training_record(tmp_path, TrainingRecord([recorded]))
        record = read_training_record(tmp_path)
        assert record.chosen_on == recorded.chosen_on and record.subjects == ["mine/1"]
        assert seen_people(record, ["4", "05", "6"], "mine") == recorded.chosen_on


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return simulate_dataset(tmp_path_factory.mktemp("recordings"), n_subjects=5, seed=0)


@pytest.mark.slow
def test_people_of_prepared_data_are_those_of_the_task(manifest, tmp_path):
    """Shards put the data set before a person, tasks need not: the check finds the same people in both."""
    extractor = NeurIPTFeatureExtractor(montage=["C3", "C4"])
    rules = RejectionRules(min_recording_seconds=0, trim_seconds=0, max_microvolts=None, min_microvolts=None)
    for name in ("one", "two"):
        prepare_dataset(manifest, extractor, tmp_path / name, dataset_name="hands", rules=rules)
    datasets, people = seen_in_shards([tmp_path / "one"], origins={"hands": {"licence": "CC0-1.0"}})
    (both,), _ = seen_in_shards([tmp_path / "one", tmp_path / "two"])
    assert datasets[0].name == "hands" and datasets[0].licence == "CC0-1.0" and datasets[0].source == "unknown"
    assert len(people) == datasets[0].people == both.people > 1 and both.windows == 2 * datasets[0].windows
    np.testing.assert_allclose(datasets[0].hours, datasets[0].windows * 4 / 3600, atol=1e-3)
    assert seen_in_shards([tmp_path / "one"], split="nobody's") == ([], [])

    record = TrainingRecord([stage(*people)])
    write_training_record(tmp_path, record)
    changes = {"rows": [], "events": ["left_hand", "right_hand"], "label_column": "label"}
    task = manifest_task("arithmetic", str(manifest), **changes)
    train = set(task_table(task).query("split == 'train'")["subject"])
    assert {subject.removeprefix("hands/") for subject in people} == train
    assert refuse_seen(task, str(tmp_path)) == [] and refuse_seen(task, None) == []

    on_train = manifest_task("arithmetic", str(manifest), evaluate_on=["train"], **changes)
    with pytest.raises(ValueError, match="people that the weights have seen: " + ", ".join(people)):
        refuse_seen(on_train, str(tmp_path))
    others = manifest_task("arithmetic", str(manifest), evaluate_on=["train"], dataset="feet", **changes)
    assert refuse_seen(others, str(tmp_path)) == []
    allowed = manifest_task("arithmetic", str(manifest), evaluate_on=["train"], allow_seen_people=True, **changes)
    assert refuse_seen(allowed, str(tmp_path)) == people


def test_people_of_a_training_on_windows(manifest):
    """Only those whose windows were used, with the folder's name where no data set is named."""
    extractor = NeurIPTFeatureExtractor()
    changes = {"rows": [], "events": ["left_hand", "right_hand"]}
    table = task_table(manifest_task("arithmetic", str(manifest), **changes)).query("split == 'train'")
    files = list(table["file"])[:2]
    windows = {"recording": [files[0], files[0], files[1]]}
    for name in (None, "hands"):
        task = manifest_task("arithmetic", str(manifest), dataset=name, **changes)
        datasets, people = seen_in_training(task, windows, extractor)
        expected = name or manifest.parent.name
        assert people == [f"{expected}/{subject}" for subject in table["subject"][:2]]
        assert (datasets[0].name, datasets[0].people, datasets[0].windows) == (expected, 2, 3)


@pytest.fixture
def task(tmp_path):
    """Two people in each split of a folder called "folder"; nobody opens the files."""
    (tmp_path / "folder").mkdir()
    rows = []
    for number, split in enumerate(["train", "train", "val", "val", "test", "test"]):
        (tmp_path / "folder" / f"{number}_raw.fif").touch()
        rows.append({"file": f"{number}_raw.fif", "subject": f"sub-{number:02d}", "label": "x", "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "folder" / "manifest.csv", index=False)
    return TaskArguments(data=str(tmp_path / "folder"))


def windows(*numbers):
    return {"subject": [f"sub-{number:02d}" for number in numbers]}


def test_scored_people_are_called_what_they_are(task, tmp_path):
    everybody, train = windows(2, 3, 4, 4, 5), windows(0, 1, 5)
    tested = TestedPeople.of(task, None, windows(2, 3), windows(0, 1))
    assert tested.unseen == ["sub-02", "sub-03"] and str(tested) == "2 unseen people"
    assert str(TestedPeople.of(task, None, windows(2), choices=["early stopping"])) == (
        "1 people on whom something was chosen, so they are not unseen"
    )
    # weights without a record: nobody is unseen, whatever is trained afterwards
    tested = TestedPeople.of(task, str(tmp_path), everybody, train)
    assert tested.unseen == [] and tested.unknown == ["sub-02", "sub-03", "sub-04"] and tested.trained_on == ["sub-05"]
    assert "3 people of whom nobody knows whether the weights have seen them" in str(tested)
    write_training_record(tmp_path, TrainingRecord([stage("folder/sub-02")], gaps=["Nobody knows what was before."]))
    tested = TestedPeople.of(task, str(tmp_path), everybody, train)
    assert tested.seen == ["sub-02"] and tested.unknown == ["sub-03", "sub-04"] and tested.unseen == []
    write_training_record(tmp_path, TrainingRecord([stage("folder/S2")]))
    tested = TestedPeople.of(task, str(tmp_path), everybody, train).to_dict()
    assert tested["unseen"] == ["sub-03", "sub-04"] and tested["seen"] == ["sub-02"]
    assert tested["description"] == (
        "2 unseen people, 1 people who were trained on in other windows, 1 people whom the weights have seen"
    )


def test_people_are_refused_under_any_spelling(task, tmp_path):
    """Also those on whom something was chosen; a data set without a name is called as its folder."""
    record = TrainingRecord([replace(stage("folder/folder-3"), chosen_on=["folder/4"])])
    write_training_record(tmp_path, record)
    with pytest.raises(
        ValueError, match="the weights have seen: folder/4 .here sub-04., folder/folder-3 .here sub-03."
    ) as e:
        refuse_seen(task, str(tmp_path))
    assert "By name: sub-03, sub-04. If these are other" in str(e.value) and "By signal" not in str(e.value)
    assert "On folder/4 the best checkpoint or something else was chosen" in str(e.value)
    assert refuse_seen(replace(task, allow_seen_people=True), str(tmp_path)) == ["folder/4", "folder/folder-3"]
    assert refuse_seen(replace(task, dataset="other"), str(tmp_path)) == []
    write_training_record(tmp_path, TrainingRecord([stage("eegmmidb/eegmmidb-003")]))
    with pytest.raises(ValueError, match="the weights have seen: eegmmidb/eegmmidb-003"):
        refuse_seen(replace(task, dataset="eegmmidb_mi"), str(tmp_path))


def test_people_on_whom_a_training_chooses_are_not_scored_as_unseen(task, tmp_path):
    training = TrainingArguments(str(tmp_path), use_cpu=True)
    assert without_chosen_on(task, training) == (task, [])
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    training = TrainingArguments(str(tmp_path), use_cpu=True, **options)
    scored, choices = without_chosen_on(task, training)
    assert scored.evaluate_on == ["test"] and choices == ["load_best_model_at_end"]
    assert task.evaluate_on == ["validation", "test"]
    message = "load_best_model_at_end chooses on the people of validation, so they are not unseen, and nobody else"
    with pytest.raises(ValueError, match=message):
        without_chosen_on(replace(task, evaluate_on=["val"]), training)
    table = pd.read_csv(f"{task.data}/manifest.csv", dtype=str)
    table[table["split"] != "test"].to_csv(f"{task.data}/manifest.csv", index=False)
    with pytest.raises(ValueError, match=message):
        without_chosen_on(task, training)


def test_only_people_who_can_be_scored_are(task):
    assert replace(task, evaluate_on=["val", "valid", "test"]).evaluate_on == ["validation", "test"]
    for names in (["dev"], []):
        with pytest.raises(ValueError, match="evaluate_on must be of train, val"):
            replace(task, evaluate_on=names)
    with pytest.raises(ValueError, match="evaluate_on must not name train"):
        load_task(replace(task, evaluate_on=["train", "test"]), NeurIPTFeatureExtractor(), 0)
    table = pd.read_csv(f"{task.data}/manifest.csv", dtype=str)
    table[table["split"] != "test"].to_csv(f"{task.data}/manifest.csv", index=False)
    with pytest.raises(ValueError, match="Nobody is in test; the recordings of .* are in train, validation"):
        load_task(replace(task, evaluate_on=["test"]), NeurIPTFeatureExtractor(), 0)


def test_a_task_that_does_not_exist():
    with pytest.raises(ValueError, match="must be one of eyes, ssvep.*imagery, but is 'sleep'"):
        manifest_task("sleep", "manifest.csv")


def test_benchmarks_that_overlap_with_a_corpus():
    uses = {name: read_description(name).use for name in list_descriptions()}
    ours = {"eegmat", "ssvep_exo", "eegmmidb_mi"}
    assert {name for overlap in BENCHMARK_OVERLAPS for name in overlap.datasets} <= set(uses) | ours
    corpus = [name for name, use in uses.items() if use == "pre-training"]
    paper = {overlap.benchmark: overlap.relation for overlap in overlapping_benchmarks(corpus)}
    assert paper["TUSZ"] == paper["SEED-IV"] == "the same recordings" and "patients may recur" in paper["TUAB"]
    assert "people may recur" in paper["SEED-V"] and "MentalArithmetic" not in paper
    assert [overlap.benchmark for overlap in overlapping_benchmarks(["eegmat", "muse_seq"])] == ["MentalArithmetic"]
    for name in ("eegmmidb", "eegmmidb_mi", "EEGMMIDB"):
        assert [overlap.benchmark for overlap in overlapping_benchmarks([name])] == ["PhysioNet-MI"]
    assert overlapping_benchmarks([]) == []


def test_the_machine_has_a_name():
    assert machine_name() and machine_name("cpu") == machine_name()


@pytest.mark.shared_data
def test_the_manifests_people_are_found(shared_data, tmp_path):
    """Of every task, the people that are scored are refused when the weights have seen one of them, and only then."""
    manifest = str(shared_data / "manifest.csv")
    write_training_record(tmp_path, TrainingRecord([stage("eegmat/eegmat-01", "ssvep_exo/eegmat-02")]))
    with pytest.raises(ValueError, match="have seen: eegmat/eegmat-01. "):
        refuse_seen(manifest_task("arithmetic", manifest), str(tmp_path))
    for name in ("eyes", "ssvep", "listening", "pictures"):
        assert refuse_seen(manifest_task(name, manifest), str(tmp_path)) == []
