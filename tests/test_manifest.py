"""Tables of recordings: manifests and folders, rows and classes, people and their splits."""

import numpy as np
import pandas as pd
import pytest

from neuript_hf.data.manifest import assign_splits, open_row, read_table


@pytest.fixture
def manifest(tmp_path):
    """Six people, a recording for each of two classes, split 4 / 1 / 1. Nobody opens the files."""
    rows = []
    for number, split in enumerate(["train", "train", "train", "train", "val", "test"]):
        for label in ("rest", "task"):
            file = f"sub-{number}_{label}_raw.fif"
            (tmp_path / file).touch()
            rows.append({"file": file, "subject": f"sub-{number}", "label": label, "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


def test_a_manifest(manifest):
    table = assign_splits(read_table(manifest))
    assert table["path"][0] == str(manifest.parent / "sub-0_rest_raw.fif")
    assert table["split"].value_counts().to_dict() == {"train": 8, "validation": 2, "test": 2}
    assert read_table(manifest.parent).equals(read_table(manifest))


@pytest.mark.parametrize("ending", ["tsv", "jsonl"])
def test_manifests_of_other_formats(manifest, ending):
    table = pd.read_csv(manifest, dtype=str)
    other = manifest.with_suffix(f".{ending}")
    if ending == "tsv":
        table.to_csv(other, sep="\t", index=False)
    else:
        table.to_json(other, orient="records", lines=True)
    assert read_table(other).equals(read_table(manifest))


def test_rows_are_selected(manifest):
    assert list(read_table(manifest, {"label": "rest"})["file"])[::5] == ["sub-0_rest_raw.fif", "sub-5_rest_raw.fif"]
    with pytest.raises(ValueError, match="There is no recording in .* with {'label': 'sleep'}"):
        read_table(manifest, {"label": "sleep"})
    with pytest.raises(ValueError, match="There is no column 'place' to select rows by"):
        read_table(manifest, {"place": "A"})


def test_what_is_missing_in_a_manifest_is_named(manifest):
    table = pd.read_csv(manifest, dtype=str)
    with pytest.raises(ValueError, match="needs a class in the column 'age'"):
        read_table(manifest, label_column="age")
    table.assign(file="gone_raw.fif").to_csv(manifest, index=False)
    with pytest.raises(FileNotFoundError, match="gone_raw.fif"):
        read_table(manifest)
    table.drop(columns="subject").to_csv(manifest, index=False)
    with pytest.raises(ValueError, match=r"Columns are missing in the manifest .*: \['subject'\]"):
        read_table(manifest)
    with pytest.raises(FileNotFoundError, match="No manifest or folder at"):
        read_table(manifest.parent / "nowhere.csv")
    with pytest.raises(ValueError, match="must be .csv, .tsv or .jsonl"):
        read_table(manifest.rename(manifest.with_suffix(".txt")))


def test_folders_without_a_manifest(tmp_path):
    """The class is the folder's name, the person is in the path."""
    for label in ("closed", "open"):
        (tmp_path / "eyes" / label).mkdir(parents=True)
        (tmp_path / "eyes" / label / "sub-7_raw.fif").touch()
    table = read_table(tmp_path / "eyes")
    assert table[["subject", "label"]].values.tolist() == [["7", "closed"], ["7", "open"]]
    with pytest.raises(ValueError, match="sub-7_raw.fif is not in a folder named after its class"):
        read_table(tmp_path / "eyes" / "open")
    (tmp_path / "eyes" / "open" / "someone_raw.fif").touch()
    with pytest.raises(ValueError, match="finds no person in open/someone_raw.fif"):
        read_table(tmp_path / "eyes", events=["left", "right"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="There is no recording below"):
        read_table(tmp_path / "empty")


def test_a_person_in_two_splits_is_refused(manifest):
    table = read_table(manifest).assign(split=["train", "test", "test", "train"] * 3)
    with pytest.raises(ValueError, match=r"in more than one split: \['sub-0'"):
        assign_splits(table.copy())
    assert assign_splits(table, within_subject=True)["split"].value_counts().to_dict() == {"train": 6, "test": 6}
    with pytest.raises(ValueError, match=r"must hold train, val, .* but has \['dev set'\]"):
        assign_splits(table.assign(split="dev set"))


def test_people_are_drawn_if_there_is_no_split(manifest):
    table = read_table(manifest).drop(columns="split")
    drawn = assign_splits(table.copy(), seed=1)
    people = {name: set(part["subject"]) for name, part in drawn.groupby("split")}
    assert set(people) == {"train", "validation", "test"}
    assert sum(map(len, people.values())) == len(set.union(*people.values())) == 6
    assert assign_splits(table.copy(), seed=1).equals(drawn)
    assert any(not assign_splits(table.copy(), seed=seed).equals(drawn) for seed in range(2, 6))
    with pytest.raises(ValueError, match="2 people cannot be split"):
        assign_splits(table[:4].copy())
    with pytest.raises(ValueError, match="three shares that sum to 1"):
        assign_splits(table, shares=(0.6, 0.2, 0.1))


def test_drawn_people_keep_the_share_of_classes(manifest):
    """If every person belongs to one class, each split gets people of each."""
    table = read_table(manifest).drop(columns="split").assign(label=["patient", "patient", "control", "control"] * 3)
    for seed in range(5):
        drawn = assign_splits(table.copy(), shares=(0.34, 0.33, 0.33), seed=seed)
        assert (drawn.groupby("split")["label"].nunique() == 2).all() and drawn["split"].nunique() == 3


def test_a_row_describes_its_file(tmp_path):
    """Integers in steps of a tenth of a millivolt, in trials of half a second."""
    np.save(tmp_path / "a.npy", np.full((2, 128), 3, dtype=np.int16))
    row = {"path": str(tmp_path / "a.npy"), "sampling_rate": "128", "unit": "mV", "channel_names": "C3 C4"}
    source = open_row(row | {"step": "0.1", "trial_seconds": "0.5"})
    assert source.sampling_rate == 128 and np.allclose(source.microvolts, 100)
    assert source.notes == ["step: the numbers are in steps of 0.1 mV"]
    assert [(segment.start, segment.stop) for segment in source.segments] == [(0, 64), (64, 128)]
    for name in ("step", "trial_seconds"):
        with pytest.raises(ValueError, match=f"{name} must be a positive number"):
            open_row(row | {name: "-1"})
