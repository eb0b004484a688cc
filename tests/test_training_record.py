"""What weights have seen: the record travels, keeps everyone, and people seen are refused by name."""

import numpy as np
import pytest
from tasks import manifest_task

from neuript_hf import NeurIPTFeatureExtractor, prepare_dataset
from neuript_hf.checkpoints.provenance import machine_name
from neuript_hf.checkpoints.training_record import (
    BENCHMARK_OVERLAPS,
    SeenDataset,
    TrainingRecord,
    TrainingStage,
    overlapping_benchmarks,
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
from neuript_hf.data.tasks import task_table


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
    with pytest.raises(
        ValueError, match="is not a training record .* Expected a list `stages` .* kind, datasets, sub"
    ):
        read_training_record(tmp_path)


def test_weights_that_go_on_forget_nobody():
    first = TrainingRecord([stage("tusz/01", "siena/02")])
    second = first.followed_by(stage("mine/07", "tusz/01", kind="fine-tuning"))
    assert second.subjects == ["mine/07", "siena/02", "tusz/01"]
    assert second.dataset_names == ["mine", "siena", "tusz"]
    assert [part.kind for part in second.stages] == ["pre-training", "fine-tuning"]
    assert first.subjects == ["siena/02", "tusz/01"]


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
        (["1", "001"], None, []),
        ([], None, []),
    ],
)
def test_who_has_been_seen(subjects, dataset, seen):
    assert seen_people(RECORD, subjects, dataset) == seen


def test_without_a_record_nobody_is_known():
    assert seen_people(None, ["tusz/01"]) == []


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


def test_a_task_that_does_not_exist():
    with pytest.raises(ValueError, match="must be one of arithmetic, eyes.*imagery, but is 'sleep'"):
        manifest_task("sleep", "manifest.csv")


def test_benchmarks_that_overlap_with_a_corpus():
    uses = {name: read_description(name).use for name in list_descriptions()}
    ours = {"eegmat", "ssvep_exo"}
    assert {name for overlap in BENCHMARK_OVERLAPS for name in overlap.datasets} <= set(uses) | ours
    corpus = [name for name, use in uses.items() if use == "pre-training"]
    paper = {overlap.benchmark: overlap.relation for overlap in overlapping_benchmarks(corpus)}
    assert paper["TUSZ"] == paper["SEED-IV"] == "the same recordings" and "patients may recur" in paper["TUAB"]
    assert "people may recur" in paper["SEED-V"] and "MentalArithmetic" not in paper
    assert [overlap.benchmark for overlap in overlapping_benchmarks(["eegmat", "muse_seq"])] == ["MentalArithmetic"]
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
