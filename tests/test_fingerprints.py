"""Recordings are recognised by their signal, under any name, and nobody is taken for somebody else."""

import base64
import json

import mne
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy.signal import butter, sosfilt
from tasks import manifest_task

from neuript_hf import NeurIPTFeatureExtractor, prepare_dataset
from neuript_hf.checkpoints.training_record import (
    SeenDataset,
    TrainingRecord,
    TrainingStage,
    fingerprints_in_shards,
    fingerprints_in_training,
    people_seen_before,
    read_training_record,
    refuse_seen,
    write_training_record,
)
from neuript_hf.data.fingerprints import (
    BREAK,
    LONGEST_RUN,
    MAX_WORDS,
    SAME_SIGNAL,
    fingerprint,
    recording_courses,
    same_recordings,
    same_signal,
    spectral_course,
    word_scores,
)
from neuript_hf.data.manifest import read_table
from neuript_hf.data.preparation import RejectionRules
from neuript_hf.data.tasks import task_table
from neuript_hf.history import join_records
from neuript_hf.recordings import Segment, recording_from_array


RATE = 128
NAMES = ["Fp1", "Fp2", "C3", "C4", "O1", "O2"]


def person(seed: int, seconds: float = 24, channels: int = 6) -> np.ndarray:
    """EEG-like noise in microvolts, `[C, T]`: sources of changing strength, mixed into all channels."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    sources = rng.normal(size=(8, samples))
    strength = np.exp(mne.filter.filter_data(rng.normal(size=(8, samples)), RATE, None, 2, verbose="ERROR") * 4)
    colours = [butter(2, (low, low * 1.5), "bandpass", fs=RATE, output="sos") for low in (1, 2, 4, 6, 9, 12, 16, 22)]
    sources = np.array([sosfilt(colour, source) for colour, source in zip(colours, sources, strict=True)]) * strength
    return 20 * rng.normal(size=(channels, 8)) @ sources + rng.normal(size=(channels, samples))


def course(signal: np.ndarray, rate: float = RATE) -> np.ndarray:
    return spectral_course(recording_from_array(signal, rate, [f"E{k}" for k in range(len(signal))], 1.0, "uV"))


def filtered(signal: np.ndarray, low: float, high: float) -> np.ndarray:
    return mne.filter.filter_data(signal, RATE, low, high, verbose="ERROR")


CHANGES = {
    "unit and polarity": lambda x: course(-1e-6 * x),
    "gain of each channel's amplifier": lambda x: course(x + 300),
    "rate": lambda x: course(mne.filter.resample(x, 250, RATE), 250),
    "lower rate": lambda x: course(mne.filter.resample(x, 100, RATE), 100),
    "filter": lambda x: course(filtered(x, 1, 30)),
    "narrower filter": lambda x: course(filtered(x, 4, 25)),
    "filter forward only": lambda x: course(sosfilt(butter(4, (1, 40), "bandpass", fs=RATE, output="sos"), x)),
    "cropped": lambda x: course(x[:, round(3.37 * RATE) :]),
    "12 s of it": lambda x: course(x[:, round(2.9 * RATE) : round(14.9 * RATE)]),
    "average reference": lambda x: course(x - x.mean(axis=0)),
    "another reference": lambda x: course(x[1:] - x[0]),
    "bipolar": lambda x: course(x[:-1] - x[1:]),
    "other order": lambda x: course(x[::-1]),
    "half of the channels": lambda x: course(x[::2]),
    "rounded": lambda x: course(np.rint(x)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_recording_is_recognised(change):
    people = {name: [fingerprint(course(person(seed)))] for seed, name in enumerate(("ada", "bob", "eve"))}
    found = same_signal(CHANGES[change](person(1)), people)
    assert list(found) == ["bob"] and found["bob"] >= SAME_SIGNAL


def test_other_people_are_not_recognised():
    courses = [course(person(seed)) for seed in range(12)]
    texts = [fingerprint(part) for part in courses]
    scores = [word_scores(a, text).max() for i, a in enumerate(courses) for j, text in enumerate(texts) if i != j]
    assert max(scores) < SAME_SIGNAL - 0.1
    assert same_recordings(courses) == []


def test_a_fingerprint_says_nothing_about_size_sign_and_place():
    """48 bytes for 8 s of all channels together: the same for a signal and its opposite, in whatever order."""
    signal = person(0)
    text = fingerprint(course(signal))
    assert len(base64.b64decode(text)) == 3 * 48
    bits, samples = 8 * 3 * 48, signal.size // 2  # at 64 Hz
    assert bits < samples / 6
    assert fingerprint(course(-signal)) == fingerprint(course(signal[::-1])) == text
    # channels that are left out and a gain change hardly a bit
    assert word_scores(course(3 * signal), text) == pytest.approx(word_scores(course(signal), text), abs=0.01)


def test_a_long_recording_keeps_some_words_and_is_read_in_parts():
    signal = person(3, seconds=700, channels=2)
    whole = course(signal)
    assert whole.shape == (16 * 700, 6)
    text = fingerprint(whole)
    assert len(text) // len(BREAK) == MAX_WORDS + MAX_WORDS // LONGEST_RUN
    assert word_scores(whole, text).reshape(-1, LONGEST_RUN + 1)[:, 0].min() > 1.5
    assert same_signal(course(signal[:, 400 * RATE : 460 * RATE]), {"ada": [text]})


def test_nothing_is_said_of_silence_short_and_periodic_signals():
    assert fingerprint(course(person(0, seconds=7.9))) == ""
    assert fingerprint(course(np.zeros((3, 20 * RATE)))) == ""
    assert fingerprint(course(np.full((3, 20 * RATE), np.nan))) == ""
    square = np.sign(np.sin(2 * np.pi * 0.7 * np.arange(20 * RATE) / RATE)) * np.array([[1.0], [2.0], [5.0]])
    assert fingerprint(course(square)) == ""
    stopped = person(0)
    stopped[:, : 10 * RATE] = 0
    text = fingerprint(course(stopped))
    assert text[: 2 * len(BREAK)] == 2 * BREAK and same_signal(course(stopped), {"ada": [text]})
    assert same_signal(course(np.zeros((3, 20 * RATE))), {"ada": [text], "bob": []}) == {}
    assert same_signal(course(stopped), {}) == {}


def test_pieces_and_segments_follow_each_other():
    """Epochs without overlap are found in the continuous signal; other channels than EEG are not looked at."""
    signal = person(5)
    text = fingerprint(course(signal))
    epochs = signal.reshape(len(signal), 6, 4 * RATE).transpose(1, 0, 2)
    assert same_signal(course(epochs), {"ada": [text]})
    recording = recording_from_array(np.vstack([signal, person(6, channels=1)]), RATE, [*NAMES, "EOG"], 1.0, "uV")
    recording.types[-1] = "eog"
    np.testing.assert_array_equal(spectral_course(recording), course(signal))
    recording.segments = [Segment(0, 12 * RATE, 0.0), Segment(12 * RATE, 24 * RATE, 60.0)]
    assert same_signal(spectral_course(recording), {"ada": [text]})
    recording.types = ["eog"] * 7
    assert spectral_course(recording).shape == (0, 6)


def write_recordings(folder, people: dict[str, np.ndarray], rate: float = RATE) -> None:
    for name, signal in people.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        info = mne.create_info(NAMES, rate, "eeg")
        mne.io.RawArray(1e-6 * signal, info, verbose="ERROR").save(folder / name, verbose="ERROR")


def record(fingerprints: dict[str, list[str]]) -> TrainingRecord:
    details = {"seconds": 1.0, "threads": 1, "machine": "m", "commit": None, "command": "c", "seeds": [0]}
    datasets = [SeenDataset("clinic", len(fingerprints), 9, 0.1)]
    stage = TrainingStage("pre-training", datasets, list(fingerprints), steps=1, windows_seen=1, **details)
    return TrainingRecord([stage], fingerprints=fingerprints)


def test_people_under_their_own_numbers_are_refused_by_both_names(tmp_path):
    """Recordings of a pre-training, filtered and re-referenced, sorted into folders under numbers of the user's."""
    signals = {f"clinic/{name}": person(seed) for seed, name in enumerate(("ada", "bob", "eve"))}
    seen = {name: [fingerprint(course(signal))] for name, signal in list(signals.items())[:2]}
    write_training_record(tmp_path / "weights", record(seen))
    ours = dict(
        zip(("calm/sub-01_raw.fif", "tense/sub-02_raw.fif", "calm/sub-03_raw.fif"), signals.values(), strict=True)
    )
    changed = {name: filtered(signal - signal.mean(axis=0), 1, 40)[:, RATE:] for name, signal in ours.items()}
    write_recordings(tmp_path / "ours", changed)
    options = {"rows": [], "label_column": "label", "evaluate_on": ["train", "validation", "test"]}
    task = manifest_task("arithmetic", str(tmp_path / "ours"), **options)
    named = (
        r"seen: clinic/ada \(here 01\), clinic/bob \(here 02\)\. .*By signal: 01, 02\. Recordings of theirs are the"
    )
    with pytest.raises(ValueError, match=named) as refused:
        refuse_seen(task, str(tmp_path / "weights"))
    assert "By name" not in str(refused.value)
    allowed = manifest_task("arithmetic", str(tmp_path / "ours"), allow_seen_people=True, **options)
    assert refuse_seen(allowed, str(tmp_path / "weights")) == ["clinic/ada", "clinic/bob"]
    found = people_seen_before(task, read_training_record(tmp_path / "weights"), task_table(task))
    assert found == {"01": ["clinic/ada"], "02": ["clinic/bob"]}


def test_a_record_without_fingerprints_says_so(tmp_path, caplog):
    old = record({"clinic/ada": ["x"]})
    old.fingerprints = {}
    write_training_record(tmp_path / "weights", old)
    assert json.loads((tmp_path / "weights/training.json").read_text()).keys() == {"stages"}
    write_recordings(
        tmp_path / "ours",
        {"a/sub-01_raw.fif": person(0), "b/sub-02_raw.fif": person(1), "a/sub-03_raw.fif": person(2)},
    )
    task = manifest_task("arithmetic", str(tmp_path / "ours"), rows=[], label_column="label", evaluate_on=["test"])
    with caplog.at_level("WARNING", "neuript_hf"):
        assert refuse_seen(task, str(tmp_path / "weights")) == []
    assert "has no fingerprints, so people under other names are not recognised" in caplog.text


def test_fingerprints_travel_with_the_record(tmp_path):
    first = record({"clinic/ada": ["AAAB"], "clinic/bob": ["AAAC"]})
    write_training_record(tmp_path, first)
    assert read_training_record(tmp_path) == first
    joined = join_records(
        [
            {"stages": [], "fingerprints": first.fingerprints},
            {"stages": [], "fingerprints": {"clinic/ada": ["AAAB", "AAAD"]}},
        ]
    )
    assert joined["fingerprints"] == {"clinic/ada": ["AAAB", "AAAD"], "clinic/bob": ["AAAC"]}


def test_both_kinds_of_training_make_them(tmp_path):
    people = {f"sub-{number:02}_raw.fif": person(number, seconds=16) for number in (1, 2, 3)}
    write_recordings(tmp_path / "clinic", people)
    rows = [{"file": name, "subject": name[:6], "split": "train", "label": "abc"[k]} for k, name in enumerate(people)]
    manifest = tmp_path / "clinic/manifest.csv"
    pd.DataFrame(rows).to_csv(manifest, index=False)
    expected = {
        f"clinic/{name[:6]}": [fingerprint(part)]
        for name, part in zip(people, recording_courses(read_table(manifest)), strict=True)
    }
    task = manifest_task("arithmetic", str(manifest), rows=[], label_column="label")
    windows = {"recording": ["sub-01_raw.fif", "sub-03_raw.fif", "sub-03_raw.fif"]}
    found = fingerprints_in_training(task, windows)
    assert found == {name: expected[name] for name in ("clinic/sub-01", "clinic/sub-03")}
    rules = RejectionRules(min_recording_seconds=0, trim_seconds=0, max_microvolts=None, min_microvolts=None)
    for name in ("one", "two"):
        prepare_dataset(manifest, NeurIPTFeatureExtractor(montage="as_recorded"), tmp_path / name, rules=rules)
    shards = fingerprints_in_shards([tmp_path / "one", tmp_path / "two"])
    assert {person: [text[:64] for text in texts] for person, texts in shards.items()} == {
        person: [text[:64] for text in texts] for person, texts in expected.items()
    }
    assert fingerprints_in_shards([tmp_path / "one"], split="test") == {}


def test_one_recording_twice_in_a_table(tmp_path):
    """As fif of another rate and reference, under another person's name."""
    signal = person(0)
    write_recordings(tmp_path, {"sub-01_raw.fif": signal, "sub-02_raw.fif": person(1)})
    write_recordings(
        tmp_path, {"sub-09_raw.fif": mne.filter.resample(signal - signal.mean(axis=0), 200, RATE)[:, 300:]}, 200
    )
    table = read_table(tmp_path, label_column=None)
    ((one, other, score),) = same_recordings(recording_courses(table))
    assert list(table["file"].iloc[[one, other]]) == ["sub-01_raw.fif", "sub-09_raw.fif"] and score > 1


def test_a_recording_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "sub-01.edf").write_bytes(b"0       " + bytes(400))
    with pytest.raises(ValueError, match="sub-01.edf"):
        recording_courses(read_table(tmp_path, label_column=None))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["neuript-tiny", "neuript-tiny-eyes"])
def test_people_of_the_corpus_in_class_folders_are_refused(shared_data, tmp_path, name):
    """Eight people of epilepsy_gb, four of whom the weights have seen in these recordings, under other numbers."""
    table = pd.read_csv(shared_data / "manifest.csv", dtype=str, keep_default_na=False)
    table = table[(table["set"] == "epilepsy_gb") & (table["label"] == "eyes_closed")]
    chosen = pd.concat([table[table["split"] == "train"][1:5], table[table["split"] == "test"][:4]])
    seen = {}
    for number, row in enumerate(chosen.to_dict("records"), start=1):
        raw = mne.io.read_raw_edf(shared_data / row["file"], preload=True, verbose="ERROR")
        raw.filter(1, 40, verbose="ERROR").set_eeg_reference("average", verbose="ERROR").crop(1.3)
        (tmp_path / row["group"]).mkdir(exist_ok=True)
        raw.save(tmp_path / row["group"] / f"sub-{number:03}_raw.fif", verbose="ERROR")
        if row["split"] == "train":
            seen[f"epilepsy_gb/{row['subject']}"] = f"{number:03}"
    options = {"rows": [], "label_column": "label", "evaluate_on": ["train", "validation", "test"]}
    task = manifest_task("arithmetic", str(tmp_path), **options)
    with pytest.raises(ValueError) as error:
        refuse_seen(task, str(ROOT / "hub" / name))
    named = str(error.value).split("seen: ")[1].split(". A score")[0]
    assert named == ", ".join(f"{there} (here {here})" for there, here in sorted(seen.items()))
