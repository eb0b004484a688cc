"""Recordings and their labels -> windows."""

import json

import mne
import numpy as np
import pandas as pd
import pytest
from conftest import write_recording

from neuript_hf import NeurIPTFeatureExtractor, load_recordings
from neuript_hf.data.windows import channel_reports


CHANNELS = ["C3", "Cz", "C4", "Pz"]
EXTRACTOR = NeurIPTFeatureExtractor(montage=CHANNELS, window_seconds=2.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def manifest(tmp_path):
    """Six people, a recording for each of two classes, split 4 / 1 / 1."""
    rows = []
    for number, split in enumerate(["train"] * 4 + ["val", "test"]):
        for label in ("rest", "task"):
            file = f"sub-{number}_{label}_raw.fif"
            write_recording(tmp_path / file, [number, label == "task"], seconds=20.0)
            rows.append({"file": file, "subject": f"sub-{number}", "label": label, "split": split, "site": "A"})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


def edit(manifest, change):
    table = pd.read_csv(manifest, dtype=str)
    change(table).to_csv(manifest, index=False)


def test_manifest_with_a_class_for_each_file(manifest):
    splits = load_recordings(manifest, EXTRACTOR)
    assert {name: len(split) for name, split in splits.items()} == {"train": 80, "validation": 20, "test": 20}
    example = splits["train"][11]
    assert np.shape(example["input_values"]) == (4, 128) and np.shape(example["electrode_positions"]) == (4, 3)
    assert example["recording"] == "sub-0_task_raw.fif" and example["subject"] == "sub-0" and example["onset"] == 2.0
    assert splits["train"].features["labels"].names == ["rest", "task"] and example["labels"] == 1
    assert set(splits["test"]["subject"]) == {"sub-5"}


def test_events_of_a_bids_root(tmp_path):
    """From the table beside the recording. A change to the table is noticed although the recording is the same."""
    (tmp_path / "dataset_description.json").write_text("{}")
    for number in range(3):
        folder = tmp_path / f"sub-{number}" / "eeg"
        write_recording(folder / f"sub-{number}_task-hands_eeg.fif", number, 20.0, annotations=[(1.0, 0.0, "left")])
        table = "onset\tduration\ttrial_type\n3.0\t2.0\tleft\n8.5\tn/a\tright\n12.0\t0\tn/a\n"
        (folder / f"sub-{number}_task-hands_events.tsv").write_text(table)
    arguments = {"events": ["left", "right"], "split_shares": (1.0, 0.0, 0.0)}
    windows = load_recordings(tmp_path, EXTRACTOR, **arguments)["train"]
    assert list(windows["onset"]) == [3.0, 8.5] * 3 and list(windows["labels"]) == [0, 1] * 3
    assert "3 from the events.tsv" in str(channel_reports(windows))
    table = folder / "sub-2_task-hands_events.tsv"
    table.write_text(table.read_text().replace("8.5", "9.5"))
    assert load_recordings(tmp_path, EXTRACTOR, **arguments)["train"]["onset"][-1] == 9.5
    table.write_text("onset\tduration\ttrial_type\nsoon\t1\tleft\n")
    with pytest.raises(ValueError, match="events.tsv beside the file is broken"):
        load_recordings(tmp_path, EXTRACTOR, **arguments)


def test_windows_are_those_of_the_extractor(manifest):
    window = load_recordings(manifest, EXTRACTOR)["test"][3]
    raw = mne.io.read_raw(manifest.parent / window["recording"])
    expected = EXTRACTOR(raw)["input_values"][3]
    np.testing.assert_array_equal(np.asarray(window["input_values"], dtype=np.float32), expected)


def test_channel_reports_are_saved_with_the_data(manifest):
    reports = channel_reports(load_recordings(manifest, EXTRACTOR)["train"])
    assert len(reports) == 8 and json.dumps(reports)
    assert all("channels" in str(report) for report in reports.values())


def test_a_row_says_what_its_file_does_not(tmp_path):
    """Arrays have no names, rate or unit; these names are labels of a cap."""
    signal = np.random.default_rng(0).normal(0, 1e-2, (4, 1280))
    np.save(tmp_path / "a.npy", signal)
    row = {"file": "a.npy", "subject": "a", "sampling_rate": 128, "unit": "mV", "channel_names": "A1 A2 A3 A4"}
    pd.DataFrame([row | {"net": "biosemi32", "split": "train"}]).to_csv(tmp_path / "manifest.csv", index=False)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=2.0)
    windows = load_recordings(tmp_path, extractor, label_column=None)["train"]
    described = {"sampling_rate": 128, "channel_names": ["Fp1", "AF3", "F7", "F3"], "unit": "uV"}
    expected = extractor(signal * 1e3, **described)["input_values"]
    np.testing.assert_allclose(np.asarray(windows["input_values"], dtype=np.float32), expected, atol=1e-5)


def test_another_label_column_and_no_labels(manifest):
    """Of people that are drawn."""
    edit(manifest, lambda table: table.drop(columns="split").assign(group=["young", "old"] * 6))
    splits = load_recordings(manifest, EXTRACTOR, label_column="group")
    assert splits["train"].features["labels"].names == ["old", "young"]
    assert "labels" not in load_recordings(manifest, EXTRACTOR, label_column=None)["train"].features


ANNOTATIONS = [(1.0, 4.0, "left"), (6.0, 4.0, "right"), (11.0, 4.0, "left"), (19.0, 4.0, "right"), (3.0, 0.0, "blink")]


@pytest.fixture
def events_manifest(tmp_path):
    rows = []
    for number, split in enumerate(["train", "train", "test"]):
        file = f"p{number}_raw.fif"
        write_recording(tmp_path / file, number, seconds=20.0, annotations=ANNOTATIONS)
        rows.append({"file": file, "subject": number, "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "events.csv", index=False)
    return tmp_path / "events.csv"


def test_classes_from_annotations(events_manifest):
    splits = load_recordings(events_manifest, EXTRACTOR, events={"left": "hand_left", "right": "hand_right"})
    train = splits["train"]
    assert train.features["labels"].names == ["hand_left", "hand_right"]
    assert train["onset"][:3] == [1.0, 6.0, 11.0] and train["labels"][:3] == [0, 1, 0] and len(train) == 6


def test_several_windows_inside_an_annotation(events_manifest):
    splits = load_recordings(events_manifest, EXTRACTOR, events=["left", "right"], stride_seconds=1.0)
    assert splits["test"]["onset"] == [1.0, 2.0, 3.0, 6.0, 7.0, 8.0, 11.0, 12.0, 13.0]


def test_offset_before_the_annotation(events_manifest, caplog):
    splits = load_recordings(events_manifest, EXTRACTOR, events=["left", "right"], event_offset_seconds=-1.5)
    # the first would start before the recording, the last now ends inside it
    assert splits["test"]["onset"] == [4.5, 9.5, 17.5]
    assert "left out 1 windows at annotations" in caplog.text


def test_annotations_that_do_not_exist(events_manifest):
    with pytest.raises(
        ValueError, match="p0_raw.fif: the recording has no annotation 'foot' or 'T1'; it has 'blink', 'left'"
    ):
        load_recordings(events_manifest, EXTRACTOR, events=["foot", "T1"])
    with pytest.raises(ValueError, match=r"p0_raw.fif: no window of 2.0 s fits at the annotations \['left'\]"):
        load_recordings(events_manifest, EXTRACTOR, events=["left"], event_offset_seconds=500.0)


def test_events_written_in_the_manifest(events_manifest):
    edit(events_manifest, lambda table: table.assign(events=json.dumps({"left": "L", "right": "R"})))
    assert load_recordings(events_manifest, EXTRACTOR)["train"].features["labels"].names == ["L", "R"]
    edit(events_manifest, lambda table: table.assign(events=json.dumps(["left", "right"])))
    assert load_recordings(events_manifest, EXTRACTOR)["train"].features["labels"].names == ["left", "right"]
    edit(events_manifest, lambda table: table.assign(events="{'left': 'L', 'right': 'R'}"))
    with pytest.raises(
        ValueError, match=r"column 'events' of .*events.csv .* row 1 \(p0_raw.fif\) has .*'left': 'L'"
    ) as e:
        load_recordings(events_manifest, EXTRACTOR)
    # the example, put into the text of the file
    cell = str(e.value).rpartition("this is ")[2].removesuffix(".").replace("T1", "left").replace("T2", "right")
    rows = pd.read_csv(events_manifest, dtype=str).drop(columns="events")
    lines = rows.to_csv(index=False).splitlines()
    events_manifest.write_text("\n".join([f"{lines[0]},events", *(f"{line},{cell}" for line in lines[1:])]))
    assert load_recordings(events_manifest, EXTRACTOR)["train"].features["labels"].names == ["left", "right"]


def test_annotations_of_a_recording_that_starts_late(tmp_path):
    """Annotations count from the measurement date, and a cropped recording does not start at zero."""
    path = write_recording(tmp_path / "sub-1_raw.fif", 1, seconds=20.0, annotations=ANNOTATIONS)
    raw = mne.io.read_raw(path, preload=True).set_meas_date(1_700_000_000)
    raw.crop(5.5).save(tmp_path / "cropped_raw.fif")
    pd.DataFrame([{"file": "cropped_raw.fif", "subject": 1, "split": "train"}]).to_csv(tmp_path / "m.csv")
    train = load_recordings(tmp_path / "m.csv", EXTRACTOR, events=["left", "right"])["train"]
    assert train["onset"] == [0.5, 5.5] and train["labels"] == [1, 0]


def test_a_refused_recording_is_named(manifest):
    with pytest.raises(ValueError, match="sub-0_rest_raw.fif: .*Fp1"):
        load_recordings(manifest, NeurIPTFeatureExtractor(montage=["Fp1", "C3"], window_seconds=2.0))


def test_a_changed_file_is_read_again(manifest):
    """The cache must not return the windows of the old file."""
    before = load_recordings(manifest, EXTRACTOR)["test"][0]["input_values"]
    write_recording(manifest.parent / "sub-5_rest_raw.fif", 99, seconds=20.0)
    after = load_recordings(manifest, EXTRACTOR)["test"][0]["input_values"]
    assert not np.allclose(before, after)


def test_several_processes_give_the_same(manifest):
    one = load_recordings(manifest, EXTRACTOR)["train"]
    two = load_recordings(manifest, EXTRACTOR, num_proc=2)["train"]
    assert one["recording"] == two["recording"] and one["input_values"] == two["input_values"]


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "montage", "options", "train_windows"),
    [
        ("eegmat", "double_banana", {}, 600),
        ("epilepsy_gb", "as_recorded", {}, 990),
        ("ssvep_exo", "as_recorded", {"events": ["13 Hz", "17 Hz", "21 Hz"], "window_seconds": 5.0}, 312),
        ("dasps", "as_recorded", {}, 504),
        ("uci_alcohol", "double_banana", {"events": ["S1 obj", "S2 match", "S2 nomatch"], "window_seconds": 1.0}, 592),
    ],
)
def test_the_tasks_of_the_corpus(shared_data, name, montage, options, train_windows):
    """Every labelled set, split by person, gives the numbers of windows that its README states."""
    extractor = NeurIPTFeatureExtractor(montage=montage)
    splits = load_recordings(shared_data / "manifest.csv", extractor, rows={"set": name}, **options)
    assert len(splits["train"]) == train_windows
    people = [set(split["subject"]) for split in splits.values()]
    assert len(people) == 3 and sum(map(len, people)) == len(set.union(*people))


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "events", "window", "offset"),
    [
        ("muse_p300", ["target", "non-target"], 0.9, -0.1),
        ("muse_n170", ["house", "face"], 0.9, -0.1),
        ("eegmmidb", ["T1", "T2"], 4.0, 0.0),
    ],
)
def test_the_sets_split_within_people(shared_data, name, events, window, offset):
    splits = load_recordings(
        shared_data / "manifest.csv",
        NeurIPTFeatureExtractor(montage="as_recorded"),
        rows={"set": name},
        events=events,
        window_seconds=window,
        event_offset_seconds=offset,
        split_column="within_split",
        within_subject=True,
    )
    assert len(splits) == 3 and all(set(split["labels"]) == {0, 1} for split in splits.values())


def test_a_file_that_cannot_be_read_is_named(events_manifest, monkeypatch):
    """With the error of the file, not `datasets`' own, which says nothing of it."""

    def refuse(row):
        raise PermissionError(13, "Permission denied", row["path"])

    monkeypatch.setattr("neuript_hf.data.windows.open_row", refuse)
    with pytest.raises(PermissionError, match="p0_raw.fif"):
        load_recordings(events_manifest, EXTRACTOR, events=["left", "right"])
