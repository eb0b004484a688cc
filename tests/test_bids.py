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
