"""Tables of recordings: manifests and folders, rows and classes, people and their splits."""

import re

import mne
import numpy as np
import pandas as pd
import pytest
from conftest import make_raw

from neuript_hf.data.manifest import _draw_people, assign_splits, find_recordings, open_row, read_table


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
    with pytest.raises(ValueError, match="There is no column 'place'; the manifest has file, subject, label, split"):
        read_table(manifest, {"place": "A"})


def test_what_is_missing_in_a_manifest_is_named(manifest):
    table = pd.read_csv(manifest, dtype=str)
    with pytest.raises(ValueError, match="no column 'age'; the manifest has file, subject, label, split. If annot"):
        read_table(manifest, label_column="age")
    table.rename(columns={"label": "lable"}).to_csv(manifest, index=False)
    with pytest.raises(
        ValueError, match="no column 'label'; the manifest has file, subject, lable, split. Did you mean 'lable'?"
    ):
        read_table(manifest)
    table.assign(label=["rest", " "] * 6).to_csv(manifest, index=False)
    with pytest.raises(ValueError, match="the column 'label' is empty for sub-0_task_raw.fif, .* and 3 more"):
        read_table(manifest)
    table.assign(file=["gone_raw.fif", "lost_raw.fif"] * 6).to_csv(manifest, index=False)
    with pytest.raises(FileNotFoundError, match="recordings that do not exist: .*/gone_raw.fif, .* and 9 more"):
        read_table(manifest)
    table.drop(columns="subject").to_csv(manifest, index=False)
    with pytest.raises(ValueError, match="There is no column 'subject'; the manifest has file, label, split"):
        read_table(manifest)


@pytest.mark.parametrize(("ending", "sign", "expected"), [("csv", ";", ","), ("csv", "\t", ","), ("tsv", ",", "\t")])
def test_other_separators_are_named(manifest, ending, sign, expected):
    table, file = pd.read_csv(manifest, dtype=str).assign(age="23,5"), manifest.with_name(f"other.{ending}")
    table.to_csv(file, index=False, sep=sign)
    with pytest.raises(ValueError, match=re.escape(f"separated by {sign!r}, but a .{ending} file is")):
        read_table(file)
    table.to_csv(file, index=False, sep=expected)
    assert len(read_table(file)) == 12


def test_a_line_that_is_no_json_is_named(tmp_path):
    file = tmp_path / "manifest.jsonl"
    for line in ("{'file': 'a.edf'}", "[1]"):
        file.write_text('{"file": "a.edf", "subject": "1", "label": "x"}\n\n' + line)
        with pytest.raises(ValueError, match=re.escape(f"but line 3 is {line!r}")):
            read_table(file)


def test_one_person_is_split_by_the_manifest(manifest):
    table = pd.read_csv(manifest, dtype=str).assign(subject="sub-0")
    table.drop(columns="split").to_csv(manifest, index=False)
    for within in (False, True):
        with pytest.raises(ValueError, match="One person cannot be split by person. .* and within_subject=True"):
            assign_splits(read_table(manifest), within_subject=within)
    table.to_csv(manifest, index=False)  # as advised
    assert set(assign_splits(read_table(manifest), within_subject=True)["split"]) == {"train", "validation", "test"}
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


@pytest.mark.parametrize("people", [(2, 2), (3, 3), (2, 7), (3, 4), (6, 3)])
@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.5, 0.0, 0.5)])
def test_few_people_with_one_class_each_are_dealt_out(people, shares):
    """Train has every class, and the other splits have people; too few people are refused with what to do."""
    labels = ["a"] * people[0] + ["b"] * people[1]
    table = pd.DataFrame({"subject": [f"{number:02d}" for number in range(sum(people))], "label": labels})
    for seed in range(4):
        drawn = table.assign(split=table["subject"].map(_draw_people(table, shares, seed)))
        assert set(drawn["label"][drawn["split"] == "train"]) == {"a", "b"}
        assert set(drawn["split"]) == {"train", "test"} | ({"validation"} if shares[1] else set())
        assert _draw_people(table, shares, seed) == dict(zip(drawn["subject"], drawn["split"], strict=True))
    few = pd.DataFrame({"subject": list("abcdef"), "label": list("xxyyzz")})
    assert set(_draw_people(few, (0.6, 0.2, 0.2), 0).values()) == {"train", "validation", "test"}
    few = pd.DataFrame({"subject": list("abc"), "label": "x"})
    assert set(_draw_people(few, (0.98, 0.01, 0.01), 0).values()) == {"train", "validation", "test"}
    few = pd.DataFrame({"subject": list("abcd"), "label": list("xxyy")})
    assert sorted(_draw_people(few, (0.9, 0.1, 0.0), 0).values()) == ["train"] * 3 + ["validation"]


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


# Folders


def raw_file(path, seconds=8, split=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = make_raw(np.random.default_rng(0).normal(0, 1e-5, (4, seconds * 128)), ["C3", "Cz", "C4", "Pz"])
    raw.save(path, **({"split_size": split, "buffer_size_sec": 1} if split else {}))
    return raw


def names_below(folder):
    return [path.relative_to(folder).as_posix() for path in find_recordings(folder)]


def test_parts_of_a_split_recording_are_one_row(tmp_path):
    raw_file(tmp_path / "rest" / "sub-01_raw.fif", seconds=2500, split="2MB")
    raw_file(tmp_path / "rest" / "sub-02_run-1_raw.fif")
    raw_file(tmp_path / "rest" / "sub-02_raw-2.fif")  # a name that looks like a part, of a whole recording
    assert (tmp_path / "rest" / "sub-01_raw-1.fif").is_file()
    assert list(read_table(tmp_path)["file"]) == [
        "rest/sub-01_raw.fif",
        "rest/sub-02_raw-2.fif",
        "rest/sub-02_run-1_raw.fif",
    ]
    rows = [{"file": f"rest/sub-01_raw{part}.fif", "subject": "01", "label": "rest"} for part in ("", "-1")]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(ValueError, match="Rows .* later parts .*sub-01_raw-1.fif.*Take these rows out"):
        read_table(tmp_path)
    pd.DataFrame(rows[:1]).to_csv(tmp_path / "manifest.csv", index=False)
    assert list(read_table(tmp_path)["file"]) == ["rest/sub-01_raw.fif"]


def test_what_lies_beside_recordings_is_none(tmp_path):
    raw = raw_file(tmp_path / "sub-01_raw.fif")
    for name in ("._sub-01_raw.fif", ".git/annex/objects/a/b.edf", "x.mff/signal1.fif", "y.ds/hz.ds/hz.fif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"anything")
    epochs = mne.make_fixed_length_epochs(raw, 1.0, preload=True)
    epochs.save(tmp_path / "sub-02-epo.fif")
    epochs.average().save(tmp_path / "sub-01-ave.fif")
    mne.compute_covariance(epochs).save(tmp_path / "sub-01-cov.fif")
    raw.save(tmp_path / "sub-03-ave.fif")  # a raw, whatever its name
    assert names_below(tmp_path) == ["sub-01_raw.fif", "sub-02-epo.fif", "sub-03-ave.fif", "x.mff", "y.ds"]


def test_one_recording_in_two_formats_is_refused(tmp_path):
    for name in ("sub-01.edf", "sub-01.set", "sub-02_raw.fif", "sub-02-epo.fif", "sub-03.edf"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="one name .*sub-01.edf and sub-01.set; sub-02-epo.fif and sub-02_raw.fif"):
        find_recordings(tmp_path)
    (tmp_path / "sub-01.set").unlink()
    (tmp_path / "sub-02-epo.fif").unlink()
    assert names_below(tmp_path) == ["sub-01.edf", "sub-02_raw.fif", "sub-03.edf"]


def test_packed_recordings_are_not_left_out_silently(tmp_path):
    for name in ("sub-01.edf", "sub-01.edf.gz", "sub-02.fif.gz"):
        (tmp_path / name).touch()
    assert names_below(tmp_path) == ["sub-01.edf", "sub-02.fif.gz"]
    (tmp_path / "sub-03.edf.gz").touch()
    with pytest.raises(ValueError, match="Recordings below .* are packed: sub-03.edf.gz. Unpack"):
        find_recordings(tmp_path)
    (tmp_path / "sub-03.edf.gz").rename(tmp_path / "sub-03.edf")
    assert len(names_below(tmp_path)) == 3
