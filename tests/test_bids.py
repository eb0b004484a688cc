"""BIDS folders as mne-bids writes them, read as mne-bids reads them; users do not need that package."""

import mne
import mne_bids
import numpy as np
import pytest
from conftest import make_raw

from neuript_hf import NeurIPTFeatureExtractor, load_recordings, open_recording


NAMES, TYPES = ["C3", "Cz", "C4", "Pz", "EOG left"], ["eeg", "eeg", "eeg", "eeg", "eog"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two people, a bad channel, an eye channel, events of two classes: the folder and the paths of the recordings."""
    folder, paths = tmp_path_factory.mktemp("bids"), []
    for person in ("01", "02"):
        signal = np.random.default_rng(int(person)).normal(0, 1e-5, (5, 128 * 40))
        raw = make_raw(signal, NAMES, types=TYPES)
        raw.info["bads"] = ["Pz"]
        raw.info["line_freq"] = 50
        raw.set_annotations(mne.Annotations([4.0, 12.0, 20.0, 28.0], [4.0] * 4, ["left", "right"] * 2))
        path = mne_bids.BIDSPath(subject=person, task="hands", root=folder, datatype="eeg")
        written = mne_bids.write_raw_bids(raw, path, format="BrainVision", allow_preload=True, verbose="ERROR")
        paths.append(written)
    return folder, paths


def test_a_recording_is_what_mne_bids_says(root):
    for path in root[1]:
        expected = mne_bids.read_raw_bids(path, verbose="ERROR")
        recording = open_recording(path.fpath)
        assert recording.names == expected.ch_names
        assert [kind == "eeg" for kind in recording.types] == [kind == "eeg" for kind in expected.get_channel_types()]
        assert recording.marked_bad == set(expected.info["bads"]) == {"Pz"}
        annotations = expected.annotations
        assert [event[2] for event in recording.events] == list(annotations.description)
        np.testing.assert_allclose(
            [event[:2] for event in recording.events], np.c_[annotations.onset, annotations.duration]
        )
        read = recording.read([0, 1, 2, 3], 0, 128 * 40)
        np.testing.assert_allclose(read, expected.get_data(NAMES[:4]) * 1e6, atol=0.01)


def test_windows_of_the_events_of_a_root(root):
    extractor = NeurIPTFeatureExtractor(montage=["C3", "Cz", "C4"])
    splits = load_recordings(root[0], extractor, events=["left", "right"], split_shares=(0.5, 0.0, 0.5))
    labels = [label for split in splits.values() for label in split["labels"]]
    assert sorted(labels) == [0] * 4 + [1] * 4
    people = {name: set(split["subject"]) for name, split in splits.items()}
    assert sorted(map(sorted, people.values())) == [["01"], ["02"]]


def write_tables(path, channels=None, events=None):
    """The tables beside a recording `..._eeg.fif`, of rows."""
    for what, rows in (("channels", channels), ("events", events)):
        if rows is not None:
            table = path.with_name(path.name.rsplit("_", 1)[0] + f"_{what}.tsv")
            table.write_text("\n".join("\t".join(map(str, row)) for row in rows) + "\n")
    return open_recording(path)


def fif_of(path, annotations=(), names=("C3", "Cz", "C4")):
    raw = make_raw(np.random.default_rng(0).normal(0, 1e-5, (len(names), 128 * 40)), names)
    raw.set_annotations(mne.Annotations(*zip(*annotations, strict=True)) if annotations else None)
    raw.save(path, verbose="ERROR")
    return path


def test_time_marked_in_the_table_and_in_the_file(tmp_path):
    """Both count; the file's other annotations are replaced, and all of it is in the report."""
    path = fif_of(tmp_path / "sub-1_eeg.fif", [(4.0, 1.0, "BAD_file"), (9.0, 0.0, "spike")])
    rows = [("onset", "duration", "trial_type"), (12.0, 3.0, "BAD_table"), (20.0, 0, "boundary"), (24.5, 1, "left")]
    recording = write_tables(path, events=[*rows, ("n/a", 0, "left"), (30.0, "n/a", "n/a"), (-5.0, 6.0, "bad")])
    assert [name for *_, name in recording.events] == ["bad", "BAD_file", "BAD_table", "boundary", "left", "event"]
    assert recording.gaps == [(20.0, 20.0)]
    batch = NeurIPTFeatureExtractor(montage="as_recorded")(recording)
    assert batch.onsets.tolist() == [8.0, 16.0, 20.0, 24.0, 28.0, 32.0, 36.0]
    assert batch.report.steps[:5] == [
        "events: 5 from the events.tsv beside the file, in place of the file's own 1",
        "events: 1 of the file's own are kept, as they mark time to leave out",
        "events: 1 rows without an onset are left out",
        "events: 1 with neither trial_type nor value are called 'event'",
        "unit: V to microvolt",
    ]
    assert "gap: at 20 s, of unknown length, no window reaches across it" in batch.report.steps
    assert "marked as bad: 5 s (bad, BAD_file, BAD_table); 3 of 10 windows rejected" in batch.report.steps


def test_a_table_of_channels_that_does_not_fit_is_reported(tmp_path):
    rows = [("name", "type", "status"), ("C3", "EEG", "good"), ("Pz", "EEG", "bad"), ("CZ", "EEG", "bad")]
    rows += [("C4", "EEG ", "Bad "), rows[1], ("Cz", "EEG", "rejected")]
    recording = write_tables(fif_of(tmp_path / "sub-1_eeg.fif"), channels=rows)
    assert recording.marked_bad == {"C4"}
    assert recording.notes == [
        "bad channels and types: from the channels.tsv beside the file",
        "note: the channels.tsv has rows for channels that the file does not have: Pz, CZ",
        "note: the channels.tsv has a status that is neither good nor bad for Cz",
        "note: the channels.tsv has several rows, of which the last counts, for C3",
    ]


def test_a_rate_that_the_description_contradicts_is_noted(tmp_path):
    path = fif_of(tmp_path / "sub-1_task-rest_eeg.fif")
    for text, said in (('{"SamplingFrequency": 500}', True), ('{"SamplingFrequency": 128}', False), ("{", False)):
        (tmp_path / "sub-1_task-rest_eeg.json").write_text(text)
        assert ("says 500 Hz, the file 128 Hz, which is taken" in str(open_recording(path).notes)) is said


@pytest.mark.parametrize("shared", ["sub-1/eeg/sub-1_task-rest", "sub-1/sub-1", "task-rest"])
def test_a_table_that_recordings_share(tmp_path, shared):
    """BIDS' inheritance: fewer entities in the name, or further up in the data set; the nearest counts."""
    (tmp_path / "sub-1" / "eeg").mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text("{}")
    path = fif_of(tmp_path / "sub-1" / "eeg" / "sub-1_task-rest_split-01_eeg.fif")
    for name, bad in ((shared, "C4"), ("task-other", "C3"), ("sub-1/eeg/sub-1_task-rest_run-2", "C3")):
        (tmp_path / f"{name}_channels.tsv").write_text(f"name\ttype\tstatus\n{bad}\tEEG\tbad\n")
    recording = open_recording(path)
    assert recording.marked_bad == {"C4"}
    (tmp_path / "sub-1" / "eeg" / "sub-1_task-rest_split-01_channels.tsv").write_text("name\tstatus\nCz\tbad\n")
    assert open_recording(path).marked_bad == {"Cz"}


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [("ECOG", "ecog", "inside the skull"), ("SEEG", "seeg", "inside the skull"), ("MEGMAG", "mag", "MEG")],
)
def test_types_of_the_table_that_are_no_scalp_eeg(tmp_path, kind, name, why):
    path = fif_of(tmp_path / "sub-1_ieeg.fif")
    rows = [("name", "type"), ("C3", kind), ("Cz", kind), ("C4", kind)]
    recording = write_tables(path, channels=rows)
    assert recording.types == [name] * 3 and f"types: C3, Cz, C4 from eeg to {name}" in recording.notes[0]
    with pytest.raises(ValueError, match=rf"C3, Cz, C4 of type {name} \(.*{why}"):
        NeurIPTFeatureExtractor(montage="as_recorded")(recording)
    assert (
        write_tables(path, channels=[("name", "type"), *((n, "EEG") for n in ("C3", "Cz", "C4"))]).types == ["eeg"] * 3
    )
