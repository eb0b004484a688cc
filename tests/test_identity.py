"""One person under two names, one recording in two rows, the same samples on two sides of a split."""

import json
import shutil

import mne
import numpy as np
import pandas as pd
import pytest
from conftest import write_recording
from hypothesis import given, settings
from hypothesis import strategies as st

from neuript_hf import NeurIPTFeatureExtractor, load_recordings
from neuript_hf.data import manifest as manifest_module
from neuript_hf.data import windows
from neuript_hf.data.copies import recording_names, same_files
from neuript_hf.data.manifest import assign_splits, read_table
from neuript_hf.data.people import dataset_key, is_named, one_name_each, person_key


EXTRACTOR = NeurIPTFeatureExtractor(montage=["C3", "Cz", "C4", "Pz"], window_seconds=2.0)
TRUST = "trust_manifest=True"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


SAME = [
    "1",
    "01",
    "001",
    "sub-01",
    "SUB-01",
    "S01",
    "s_1",
    "P1",
    " 1 ",
    "1.0",
    "Subject 1",
    "subj_001",
    "participant-1",
]
SAME += ["sub-S01", "sub-01_ses-2", "01 night 2", "\uff10\uff11", "1\u200b", "1,0", "eegmat-01", "EEGMAT_1"]
DIFFERENT = [
    "11",
    "10",
    "0",
    "A01",
    "B01",
    "1b",
    "1-1",
    "12_15",
    "1215",
    "2",
    "1.5",
    "S155w1",
    "155w1",
    "Smith",
    "Mith",
]
DIFFERENT += ["a+", "a", "?", "!", "\u0938\u093f", "\u0938\u093e"]


def test_a_name_without_its_spelling():
    assert {person_key(name, "eegmat") for name in SAME} == {"1"}
    assert len({person_key(name, "eegmat") for name in [*DIFFERENT, "1"]}) == len(DIFFERENT) + 1
    assert (
        person_key("Jose\u0301 Mar\u00eda") == person_key("jos\u00e9_MARI\u0301A")
        and person_key("eegmat-01") == "eegmat1"
    )
    assert person_key("eegmat/eegmat-03") == person_key("03", "EEGMAT") == "3"
    assert dataset_key("Epilepsy GB") == dataset_key("epilepsy_gb") != dataset_key("epilepsy_us")


SPELLINGS = st.builds(
    lambda word, gap, zeros, number, end, change: change(f"{word}{gap if word else ''}{'0' * zeros}{number}{end}"),
    st.sampled_from(["", "sub", "S", "subject", "Participant", "id"]),
    st.sampled_from(["", "-", "_", " ", " - "]),
    st.integers(0, 3),
    st.integers(0, 30),
    st.sampled_from(["", " ", ".0", "\t", "_ses-1"]),
    st.sampled_from([str, str.upper, str.lower, str.title]),
)


def number_of(spelling):
    return int(
        "".join(character for character in spelling.lower().split("ses")[0].split(".")[0] if character.isdigit())
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(SPELLINGS, st.sampled_from(["train", "val", "test"])), min_size=2, max_size=8))
def test_nobody_is_on_two_sides_under_any_spelling(people):
    table = pd.DataFrame(people, columns=["subject", "split"]).assign(file="x", path=".", events=None)
    numbers = table["subject"].map(number_of)
    on_two_sides = numbers[table["split"].groupby(numbers).transform("nunique") > 1]
    if len(on_two_sides):
        with pytest.raises(ValueError, match="These people are in more than one split") as refused:
            assign_splits(table)
        assert all(repr(name)[1:-1] in str(refused.value) for name in table["subject"][on_two_sides.index])
    else:
        # other numbers are other people, and each person has one name
        names = one_name_each(table)
        assert names.groupby(numbers).nunique().eq(1).all() and names.nunique() == numbers.nunique()


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_characters="/"), min_size=1, max_size=12))
def test_any_text_is_somebody(name):
    key = person_key(name)
    assert key == person_key(f" {name}\t") == person_key(f"set/{name}") and (key or not is_named(name))
    assert person_key(f"{name} 1") != person_key(f"{name} 2")


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest of (file, subject, split) with a class for each file."""

    def write(*rows, **columns):
        table = pd.DataFrame(rows, columns=["file", "subject", "split"])
        table.assign(**{"label": "x"} | columns).to_csv(tmp_path / "manifest.csv", index=False)
        return tmp_path / "manifest.csv"

    for seed, name in enumerate("abc"):
        write_recording(tmp_path / f"{name}_raw.fif", seed, seconds=10.0)
    return write


def splits_of(manifest, **options):
    return assign_splits(read_table(manifest), **options)


@pytest.mark.parametrize("other", ["P01", "p01", "P01 ", "sub-P01", "P_1", "01", "1.0"])
def test_a_person_under_two_spellings_is_refused(manifest, other):
    file = manifest(("a_raw.fif", "P01", "train"), ("b_raw.fif", other, "test"))
    with pytest.raises(ValueError, match="in more than one split") as refused:
        splits_of(file)
    assert "P01" in str(refused.value) and (other == "P01" or f"P01 = {other}" in str(refused.value))
    assert splits_of(file, within_subject=True)["subject"].tolist() == ["P01", "P01"]
    if other != "P01":  # the advice leads on
        assert TRUST in str(refused.value) and "column `dataset`" in str(refused.value)
        assert splits_of(file, trust_manifest=True)["subject"].tolist() == ["P01", other]
        file = manifest(("a_raw.fif", "P01", "train"), ("b_raw.fif", other, "test"), dataset=["here", "there"])
        assert splits_of(file)["split"].tolist() == ["train", "test"]


def test_people_of_two_data_sets_stay_apart(manifest):
    rows = [("a_raw.fif", "01", "train"), ("b_raw.fif", "01", "test"), ("c_raw.fif", "02", "test")]
    table = splits_of(manifest(*rows, set=["here", "there", "there"]))
    assert table["subject"].tolist() == ["here/01", "there/01", "02"]
    with pytest.raises(ValueError, match="in more than one split"):
        splits_of(manifest(*rows, set=["here", "Here", "there"]))


def test_a_person_under_two_spellings_is_one_person(manifest, caplog):
    """Also where nothing is refused: people are drawn, counted and kept together under one name."""
    rows = [("a_raw.fif", "sub-1", ""), ("b_raw.fif", "S01", ""), ("c_raw.fif", "2", "")]
    table = read_table(manifest(*rows)).drop(columns="split")
    manifest_module.logger.warning_once.cache_clear()
    drawn = assign_splits(table.copy(), shares=(0.5, 0.0, 0.5))
    assign_splits(table, shares=(0.5, 0.0, 0.5))  # a program does this several times, and says it once
    assert drawn["subject"].tolist() == ["sub-1", "sub-1", "2"] and drawn["split"][0] == drawn["split"][1]
    assert caplog.text.count("Taken for one person: sub-1 = S01") == 1


@pytest.mark.parametrize("nobody", ["", " ", "n/a", "nan", "None"])
def test_a_row_without_a_person_is_refused(manifest, nobody):
    file = manifest(("a_raw.fif", "1", "train"), ("b_raw.fif", nobody, "test"))
    with pytest.raises(ValueError, match="Rows of .* have nobody in the column subject: b_raw.fif"):
        read_table(file)


@pytest.mark.parametrize("other", ["a_raw.fif", "./a_raw.fif", "link_raw.fif", "hard_raw.fif", "copy_raw.fif"])
@pytest.mark.parametrize(("person", "split"), [("1", "train"), ("2", "train"), ("2", "test")])
def test_one_recording_in_two_rows_is_refused(manifest, tmp_path, other, person, split):
    (tmp_path / "link_raw.fif").symlink_to(tmp_path / "a_raw.fif")
    (tmp_path / "hard_raw.fif").hardlink_to(tmp_path / "a_raw.fif")
    shutil.copy(tmp_path / "a_raw.fif", tmp_path / "copy_raw.fif")
    file = manifest(("a_raw.fif", "1", "train"), (other, person, split), label=["x", "y"])
    with pytest.raises(ValueError, match="These rows are one recording") as refused:
        splits_of(file)
    for words in (f"a_raw.fif (1, 'x', train), {other} ({person}, 'y', {split.replace('val', 'validation')})", TRUST):
        assert words in str(refused.value)
    assert len(splits_of(file, trust_manifest=True)) == 2


def test_files_are_compared_by_their_samples(tmp_path):
    """Of a header and a file with the samples, the samples count; files of one size are not the same."""
    for person, bytes_ in (("1", b"\1" * 300_000), ("2", b"\2" * 300_000)):
        (tmp_path / person).mkdir()
        (tmp_path / person / "rec.vhdr").write_text("[Common Infos]\nDataFile=rec.eeg\n")
        (tmp_path / person / "rec.eeg").write_bytes(bytes_)
    (tmp_path / "copy.vhdr").write_text("[Common Infos]\nDataFile=copied.eeg\n")
    shutil.copy(tmp_path / "1" / "rec.eeg", tmp_path / "copied.eeg")
    for name in "xy":
        (tmp_path / name).touch()
    late = bytearray(b"\1" * 300_000)
    late[100_000] = 9  # outside the blocks that are looked at first
    (tmp_path / "late").write_bytes(late)
    one, two, copy, x, y, late = same_files(
        tmp_path / name for name in ("1/rec.vhdr", "2/rec.vhdr", "copy.vhdr", "x", "y", "late")
    )
    assert one == copy and len({one, two, x, y, late}) == 5


def test_parts_of_a_file_are_recordings(tmp_path):
    table = pd.DataFrame({"file": ["a.mat", "a.mat", "b.mat"], "trial": ["0", "1", ""]})
    assert recording_names(table).tolist() == ["a.mat, trial 0", "a.mat, trial 1", "b.mat"]
    (tmp_path / "a.mat").write_bytes(b"123")
    table = table[:2].assign(path=str(tmp_path / "a.mat"), subject="1", split="train", events=None)
    assert len(assign_splits(table.copy())) == 2
    with pytest.raises(ValueError, match="These rows are one recording"):
        assign_splits(table.assign(trial="0"))


def test_the_same_samples_under_another_format_are_refused(manifest, tmp_path):
    """As EDF, in 16 bit and with another header; the file says that it is another person."""
    raw = mne.io.read_raw(tmp_path / "a_raw.fif", preload=True)
    mne.export.export_raw(tmp_path / "other.edf", raw, verbose="ERROR")
    file = manifest(("a_raw.fif", "1", "train"), ("b_raw.fif", "2", "train"), ("other.edf", "3", "test"))
    with pytest.raises(
        ValueError, match="Two rows hold the same samples: a_raw.fif .*1, train.* and other.edf .*3, test"
    ):
        load_recordings(file, EXTRACTOR)
    assert set(load_recordings(file, EXTRACTOR, trust_manifest=True)) == {"train", "test"}
    splits = load_recordings(manifest(("a_raw.fif", "1", "train"), ("b_raw.fif", "2", "test")), EXTRACTOR)
    assert {name: len(split) for name, split in splits.items()} == {"train": 5, "test": 5}


def test_a_changed_copy_is_refused(manifest, tmp_path, monkeypatch, caplog):
    """Cropped, resampled and in another unit: no window begins where one of the other begins."""
    write_recording(tmp_path / "a_raw.fif", 0, seconds=40.0)
    raw = mne.io.read_raw(tmp_path / "a_raw.fif", preload=True).crop(3.3).resample(100)
    raw.apply_function(lambda signal: -0.5 * signal).save(tmp_path / "changed_raw.fif")
    file = manifest(("a_raw.fif", "1", "train"), ("b_raw.fif", "2", "train"), ("changed_raw.fif", "3", "test"))
    with pytest.raises(
        ValueError, match="Two rows hold the same signal, .*: a_raw.fif .1, train. and changed_raw.fif .3,"
    ):
        load_recordings(file, EXTRACTOR)
    assert set(load_recordings(file, EXTRACTOR, trust_manifest=True)) == {"train", "test"}
    monkeypatch.setattr(windows, "MOST_COMPARED", 2)  # of more it is said that they are not compared
    assert set(load_recordings(file, EXTRACTOR)) == {"train", "test"}
    assert "3 recordings are compared by path, bytes and windows, but not by their fingerprints" in caplog.text


@pytest.mark.parametrize(("second", "shared"), [(5.0, False), (3.5, True), (2.0, True)])
def test_windows_of_one_recording_on_two_sides_share_no_sample(tmp_path, second, shared):
    """A within-subject split by annotations: events closer than a window have samples in common."""
    write_recording(tmp_path / "a_raw.fif", 0, 10.0, annotations=[(2.0, 0, "early"), (second, 0, "late")])
    rows = [
        {"file": "a_raw.fif", "subject": "1", "split": split, "events": json.dumps({name: "left"})}
        for split, name in (("train", "early"), ("test", "late"))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    options = {"within_subject": True}
    if shared:
        with pytest.raises(
            ValueError, match="share samples across the split: a_raw.fif at 2 s is in train, a_raw.fif at"
        ):
            load_recordings(tmp_path, EXTRACTOR, **options)
        options |= {"trust_manifest": True}
    splits = load_recordings(tmp_path, EXTRACTOR, **options)
    assert list(splits["train"]["onset"]) == [2.0] and list(splits["test"]["onset"]) == [second]
    with pytest.raises(ValueError, match="in more than one split"):
        load_recordings(tmp_path, EXTRACTOR)


def test_recordings_of_other_people_are_other_samples(tmp_path):
    """Rhythms, drifts and a calibration signal that all recordings begin with do not make them the same."""
    time = np.arange(128 * 60) / 128
    for person in range(4):

        def alike(signal, person=person):
            signal += 3e-5 * np.sin(2 * np.pi * 10 * time + person) * (1 + np.sin(time / 7))
            signal[:, :512] = 5e-5 * np.sign(np.sin(2 * np.pi * time[:512]))

        write_recording(tmp_path / f"sub-{person}_raw.fif", person, 60.0, change=alike)
    splits = load_recordings(tmp_path, EXTRACTOR, label_column=None)
    assert sum(map(len, splits.values())) == 120
