"""From recordings to data on disk: the same bytes whatever happens on the way, and an account of every recording."""

import json
import os
import re
import shutil
import stat
import time
from unittest.mock import Mock, call

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import make_epochs, start_python, write_recording
from scipy.io import savemat

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.data import preparation
from neuript_hf.data.jobs import fresh_processes
from neuript_hf.data.preparation import RejectionRules, prepare_dataset, push_dataset
from neuript_hf.data.shards import EEGShardDataset, read_outcomes


KILLS = int(os.environ.get("NEURIPT_KILLS", 2))
EXTRACTOR = NeurIPTFeatureExtractor(montage="as_recorded")
SHORT = RejectionRules(min_recording_seconds=20, trim_seconds=4)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Eight recordings, one of them broken, one too short, in a folder without a manifest."""
    folder = tmp_path_factory.mktemp("collection")
    for number in range(6):
        write_recording(folder / f"sub-{number}_raw.fif", number)
    write_recording(folder / "sub-6_raw.fif", 6, seconds=12)
    (folder / "sub-7_raw.fif").write_bytes(b"\0" * 5000)
    return folder


@pytest.fixture(scope="module")
def reference(recordings, tmp_path_factory):
    output = tmp_path_factory.mktemp("reference") / "out"
    prepare(recordings, output)
    return content(output)


SETTINGS = {"rules": SHORT, "recordings_per_shard": 2}


def prepare(source, output, **arguments):
    return prepare_dataset(source, EXTRACTOR, output, **SETTINGS | arguments)


def start(source, output, **arguments):
    """Prepares in a process that starts with the package loaded and inherits nothing from this one."""
    process = fresh_processes(preparation.__name__).Process(
        target=prepare_dataset, args=(source, EXTRACTOR, output), kwargs=SETTINGS | arguments
    )
    process.start()
    return process


def content(folder):
    """Every file of a folder, byte for byte."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_and_its_account(recordings, tmp_path):
    summary = prepare(recordings, tmp_path / "out")
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["recordings"] == {"kept": 6, "left out": 1, "set aside": 1}
    assert summary["recordings_left_out"] == {"shorter than 20 s": 1}
    assert summary["windows"] == {"cut": 78, "kept": 78}  # 60 s less 4 s at both ends hold 13 windows of 4 s
    assert summary["people_by_split"] == {"train": 6}
    assert summary["hours_by_split"] == {"train": pytest.approx(78 * 4 / 3600, abs=1e-4)}
    (aside,) = pd.read_csv(tmp_path / "out" / "set_aside.csv").to_dict("records")
    assert aside["recording"] == "sub-7_raw.fif" and "sub-7_raw.fif" in aside["reason"]
    assert str(recordings) not in aside["reason"]
    dataset = EEGShardDataset(tmp_path / "out")
    assert len(dataset) == 78 and dataset[0]["onset"] == 4.0 and dataset[12]["onset"] == 52.0
    assert len(list(read_outcomes(tmp_path / "out"))) == 8


@pytest.mark.slow
def test_nothing_depends_on_how_the_work_was_shared(recordings, reference, tmp_path):
    """Two processes; three jobs, the last one first; and a second call that finds everything done."""
    prepare(recordings, tmp_path / "processes", num_proc=2)
    assert content(tmp_path / "processes") == reference
    for job in (2, 0):
        assert prepare(recordings, tmp_path / "jobs", shard_index=job, num_shards=3) is None
    with pytest.raises(ValueError, match=r"1 of 4 shards are missing, the first: \['00001.safetensors'\]"):
        EEGShardDataset(tmp_path / "jobs")
    assert prepare(recordings, tmp_path / "jobs", shard_index=1, num_shards=3) is not None
    assert content(tmp_path / "jobs") == reference
    prepare(recordings, tmp_path / "jobs")
    assert content(tmp_path / "jobs") == reference


@pytest.mark.slow
def test_jobs_that_begin_together(recordings, reference, tmp_path):
    jobs = [start(recordings, tmp_path / "out", shard_index=job, num_shards=4) for job in range(4)]
    for job in jobs:
        job.join()
        assert job.exitcode == 0
    assert content(tmp_path / "out") == reference


def test_what_a_killed_run_leaves_is_made_anew(recordings, reference, tmp_path):
    prepare(recordings, tmp_path / "out")
    (tmp_path / "out" / "00001.safetensors").unlink()
    (tmp_path / "out" / "00001.jsonl").write_text("half a li")
    for name in ("00001.safetensors", "dataset.json"):
        (tmp_path / "out" / f"{name}.0123.part").mkdir()
        (tmp_path / "out" / f"{name}.0123.part" / name).write_bytes(b"{")
    prepare(recordings, tmp_path / "out")
    assert content(tmp_path / "out") == reference


@pytest.mark.slow
@pytest.mark.parametrize("num_proc", [1, 2] if KILLS > 2 else [1])
def test_killed_at_random_moments(recordings, reference, tmp_path, num_proc):
    """
    Killed (SIGKILL) and resumed NEURIPT_KILLS times, a preparation ends with the bytes of an undisturbed run.
    `make kill-test` kills more often, and tries several processes, too.
    """
    output = tmp_path / "out"

    def run(seconds=None):
        """Whether the process was killed after these seconds, and the seconds that it ran."""
        began = time.monotonic()
        process = start(recordings, output, num_proc=num_proc)
        process.join(seconds)
        killed = process.is_alive()
        process.kill()
        process.join()
        assert killed or process.exitcode == 0
        return killed, time.monotonic() - began

    def start_anew():
        assert content(output) == reference
        shutil.rmtree(output)

    run()  # the server starts
    start_anew()
    _, duration = run()
    start_anew()
    rng = np.random.default_rng(int(time.time()))
    kills = 0
    while kills < KILLS:
        killed, _ = run(rng.uniform(0, duration))
        kills += killed
        if not killed:
            start_anew()
    run()
    start_anew()


@pytest.mark.slow
def test_stopped_at_every_write(tmp_path, monkeypatch):
    """Whichever file is being written when a run is interrupted, the next run completes the data set."""
    for number in range(3):
        write_recording(tmp_path / "source" / f"sub-{number}_raw.fif", number, seconds=24)
    calls = []
    monkeypatch.setattr("os.fsync", calls.append)
    prepare(tmp_path / "source", tmp_path / "reference")
    expected = content(tmp_path / "reference")
    assert len(calls) >= len(expected) == 7  # settings, two shards of two files, summary, list of what was set aside

    for fatal in range(len(calls)):
        output, calls = tmp_path / str(fatal), []

        def fail(file, calls=calls, fatal=fatal):
            calls.append(file)
            if len(calls) - 1 == fatal:
                if stat.S_ISREG(os.fstat(file).st_mode):
                    os.ftruncate(file, os.fstat(file).st_size // 2)
                raise KeyboardInterrupt

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "source", output)
        monkeypatch.undo()
        prepare(tmp_path / "source", output)
        assert content(output) == expected


@pytest.mark.slow
def test_no_process_outlives_its_parent(recordings, tmp_path):
    process = start(recordings, tmp_path / "out", recordings_per_shard=1, num_proc=2)
    children = []
    while len(children) < 2 and process.is_alive():
        time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_windows_are_rejected_by_the_rules_and_counted(tmp_path):
    """A jump of 500 microvolt at 21 s, for a moment; the last channel silent from 39.5 s on."""

    def spoil(signal):
        signal[0, 21 * 128 : 21 * 128 + 20] += 5e-4
        signal[3, 5056:] *= 0.01

    write_recording(tmp_path / "sub-1_raw.fif", 1, change=spoil)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", l_freq=1.0)
    summary = prepare_dataset(tmp_path, extractor, tmp_path / "out", rules=SHORT)
    assert summary["windows_rejected"] == {"amplitude": 1, "flat": 4}
    assert summary["windows"] == {"cut": 13, "kept": 8}
    onsets = [window["onset"] for window in EEGShardDataset(tmp_path / "out")]
    assert onsets == [4.0, 8.0, 12.0, 16.0, 24.0, 28.0, 32.0, 36.0]


def test_the_rules_of_the_paper():
    rules = RejectionRules()
    assert rules.window_starts([(0.0, 300.0)], 4.0).tolist() == [60.0 + 4 * number for number in range(45)]
    # a gap from 100 to 130 s: no window reaches into it, and windows begin anew behind it
    starts = rules.window_starts([(0.0, 100.0), (130.0, 402.0)], 4.0).tolist()
    assert starts == [60.0 + 4 * number for number in range(10)] + [130.0 + 4 * number for number in range(53)]
    good = np.ones((5, 2), dtype=bool)
    largest = np.array([[50.0, 60.0], [50.0, 101.0], [2.9, 50.0], [50.0, 60.0], [2.0, 101.0]])
    smallest = np.array([[0.1, 0.0], [0.1, 0.0], [0.0, 0.0], [0.0, 3.1], [0.0, 0.0]])
    assert rules.judge(largest, smallest, good).tolist() == ["", "amplitude", "flat", "stuck", "amplitude"]
    good[2, 0] = False  # masked by the extractor
    assert rules.judge(largest, smallest, good)[2] == "flat"
    assert RejectionRules(judge_masked=False).judge(largest, smallest, good)[2] == ""
    none = RejectionRules(max_microvolts=None, min_microvolts=None)
    assert none.judge(largest, smallest, good).tolist() == [""] * 5


def test_recordings_too_short_are_left_out_with_the_reason(tmp_path):
    write_recording(tmp_path / "sub-1_raw.fif", 1, seconds=19.0)
    write_recording(tmp_path / "sub-2_raw.fif", 2, seconds=21.0)
    rules = RejectionRules(min_recording_seconds=20, trim_seconds=9)
    summary = prepare_dataset(tmp_path, EXTRACTOR, tmp_path / "out", rules=rules)
    assert summary["recordings_left_out"] == {"no room for a window of 4 s": 1, "shorter than 20 s": 1}
    assert len(EEGShardDataset(tmp_path / "out")) == 0


def test_masked_channels(tmp_path):
    """By the paper's rules a flat channel rejects every window; without `judge_masked` the windows keep their mask."""

    def flatten(signal):
        signal[1] = 0

    write_recording(tmp_path / "sub-1_raw.fif", 1, change=flatten)
    strict = prepare(tmp_path, tmp_path / "strict")
    assert strict["windows_rejected"] == {"flat": 13}
    prepare(tmp_path, tmp_path / "kept", rules=RejectionRules(20, 4, judge_masked=False))
    dataset = EEGShardDataset(tmp_path / "kept")
    assert len(dataset) == 13 and dataset[5]["channel_mask"].tolist() == [True, False, True, True]


@pytest.fixture
def manifest(recordings, tmp_path):
    """Person 1 of two data sets, once for training, once for testing."""
    rows = [
        {"file": str(recordings / "sub-0_raw.fif"), "subject": "1", "dataset": "one", "split": "train"},
        {"file": str(recordings / "sub-1_raw.fif"), "subject": "2", "dataset": "one", "split": "train"},
        {"file": str(recordings / "sub-2_raw.fif"), "subject": "1", "dataset": "two", "split": "test"},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


def test_a_person_is_data_set_and_number(manifest, tmp_path):
    summary = prepare(manifest, tmp_path / "out")
    assert summary["people_by_split"] == {"test": 1, "train": 2}
    assert sorted(set(EEGShardDataset(tmp_path / "out").recordings["subject"])) == ["one/1", "one/2", "two/1"]
    table = pd.read_csv(manifest, dtype=str).assign(dataset="one")
    table.to_csv(manifest, index=False)
    with pytest.raises(ValueError, match=r"in more than one split: \['one/1'\]"):
        prepare(manifest, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_the_hash_of_the_split_differs_between_splits(manifest, tmp_path):
    def split_hash(name):
        prepare(manifest, tmp_path / name)
        return json.loads((tmp_path / name / "dataset.json").read_text())["split_sha256"]

    first, table = split_hash("first"), pd.read_csv(manifest, dtype=str)
    table.iloc[::-1].to_csv(manifest, index=False)
    assert split_hash("turned") == first
    table.assign(split=["train", "test", "test"]).to_csv(manifest, index=False)
    assert split_hash("other") != first


def test_a_bids_root(tmp_path):
    """Recordings of people, with and without sessions, but no derivatives and no source data."""
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "dataset_description.json").write_text("{}")
    places = (
        "sub-01/eeg/sub-01_task-rest_eeg.fif",
        "sub-02/ses-1/eeg/sub-02_ses-1_task-rest_eeg.fif",
        "derivatives/clean/sub-01/eeg/sub-01_task-rest_eeg.fif",
        "sourcedata/sub-01/sub-01_raw.fif",
    )
    for seed, place in enumerate(places):
        write_recording(tmp_path / "bids" / place, seed)
    prepare(tmp_path / "bids", tmp_path / "out")
    table = EEGShardDataset(tmp_path / "out").recordings
    assert table["subject"].tolist() == ["bids/01", "bids/02"]
    assert table["recording"].tolist() == [
        "sub-01/eeg/sub-01_task-rest_eeg.fif",
        "sub-02/ses-1/eeg/sub-02_ses-1_task-rest_eeg.fif",
    ]


def test_tables_of_a_bids_root(tmp_path):
    """The tables beside a recording mark channels as bad, or as not EEG."""
    write_recording(tmp_path / "sub-01" / "eeg" / "sub-01_task-rest_eeg.fif", 1)
    (tmp_path / "dataset_description.json").write_text("{}")
    table = "name\ttype\tunits\tstatus\nC3\tEEG\tuV\tgood\nCz\tEEG\tuV\tbad\nC4\tEOG\tuV\tgood\nPz\tEEG\tuV\tgood\n"
    (tmp_path / "sub-01" / "eeg" / "sub-01_task-rest_channels.tsv").write_text(table)
    prepare(tmp_path, tmp_path / "out", rules=RejectionRules(20, 4, judge_masked=False))
    (outcome,) = read_outcomes(tmp_path / "out")
    assert outcome.channels == ["C3", "Cz", "Pz"] and "C4" in outcome.report["dropped"]
    assert EEGShardDataset(tmp_path / "out")[0]["channel_mask"].tolist() == [True, False, True]


def test_montages_of_the_manifest(manifest, tmp_path):
    table = pd.read_csv(manifest, dtype=str).assign(montage=["", "bcic_iv_2b", "double_banana"])
    table.to_csv(manifest, index=False)
    prepare(manifest, tmp_path / "out")
    dataset = EEGShardDataset(tmp_path / "out")
    assert dataset.recordings["channels"].tolist() == [4, 2]
    (aside,) = pd.read_csv(tmp_path / "out" / "set_aside.csv").to_dict("records")
    assert "montage needs channels that the recording does not have" in aside["reason"]


def test_a_sequence_of_trials(tmp_path):
    """Each trial is filtered as if it were alone, however large the step between two trials."""
    trials = np.random.default_rng(0).normal(0, 10, (12, 3, 128)) + 300 * np.arange(12)[:, None, None]
    np.save(tmp_path / "trials.npy", np.concatenate(trials, axis=1))
    row = {"file": "trials.npy", "subject": "0", "sampling_rate": 128, "unit": "uV", "channel_names": "C3 Cz C4"}
    pd.DataFrame([row | {"trial_seconds": 1}]).to_csv(tmp_path / "manifest.csv", index=False)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=1.0)
    rules = RejectionRules(8, 0, max_microvolts=100, min_microvolts=None)
    prepare_dataset(tmp_path / "manifest.csv", extractor, tmp_path / "out", rules=rules)
    windows = list(EEGShardDataset(tmp_path / "out"))
    alone = extractor(trials, sampling_rate=128, channel_names=["C3", "Cz", "C4"], unit="uV")["input_values"]
    assert [window["onset"] for window in windows] == list(range(12))
    np.testing.assert_allclose(np.stack([window["input_values"] for window in windows]), alone, atol=2e-4)
    assert not any(window["follows"] for window in windows)


def test_windows_that_follow_each_other(tmp_path):
    """No window follows a rejected one, or one before a gap."""

    def disturb(signal):
        signal[0, 21 * 128] = 1e-3

    gap = (32.0, 0.0, "BAD boundary")
    write_recording(tmp_path / "sub-1_raw.fif", 1, seconds=40.0, change=disturb, annotations=[gap])
    prepare(tmp_path, tmp_path / "out", rules=RejectionRules(20, 0))
    follows = {window["onset"]: window["follows"] for window in EEGShardDataset(tmp_path / "out")}
    assert follows == {0: False, 4: True, 8: True, 12: True, 16: True, 24: False, 28: True, 32: False, 36: True}


def test_epochs_are_set_aside(tmp_path):
    make_epochs(np.random.default_rng(0).normal(0, 1e-5, (25, 1, 256)), ["Cz"]).save(tmp_path / "sub-1-epo.fif")
    prepare(tmp_path, tmp_path / "out")
    (aside,) = pd.read_csv(tmp_path / "out" / "set_aside.csv").to_dict("records")
    assert "holds epochs" in aside["reason"]


def test_caps_of_the_manifest(tmp_path):
    """A1 is an ear lobe, or a position on a BioSemi cap."""
    write_recording(tmp_path / "cap_raw.fif", 0, names=[f"A{number}" for number in range(1, 17)])
    pd.DataFrame([{"file": "cap_raw.fif", "subject": "1", "net": "biosemi16"}]).to_csv(tmp_path / "manifest.csv")
    prepare(tmp_path / "manifest.csv", tmp_path / "out")
    (outcome,) = read_outcomes(tmp_path / "out")
    assert outcome.status == "kept" and outcome.channels[0] == "Fp1" and len(outcome.channels) == 16


@pytest.mark.shared_data
def test_awkward_files(shared_data, tmp_path):
    """Nothing stops a preparation: files that cannot be trusted are set aside with the reason, the rest is kept."""
    zoo = shared_data / "edge_cases"
    expected = [json.loads(line) for line in (zoo / "expected.jsonl").read_text().splitlines()]
    rows = [{"file": f"{zoo}/files/{case['file']}", "subject": number} for number, case in enumerate(expected)]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=1.0)
    rules = RejectionRules(0, 0, max_microvolts=None, min_microvolts=None)
    prepare_dataset(tmp_path / "manifest.csv", extractor, tmp_path / "out", rules=rules)
    outcomes = {outcome.recording: outcome for outcome in read_outcomes(tmp_path / "out")}
    assert len(outcomes) == len(expected)
    for row, case in zip(rows, expected, strict=True):
        outcome = outcomes[row["file"]]
        assert (outcome.status == "kept") == (outcome.reason == "")
        if case["expect"] == "error":
            assert outcome.status != "kept", case["file"]
        elif outcome.status != "kept":
            # a cap that the user must name, an optional package, a third of a second, or only bad channels
            assert re.search("channel name is recognised|pip install|no room|All channels are bad", outcome.reason), (
                case["file"]
            )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"encoding": "int4"}, "encoding must be one of int16, int8, float32"),
        ({"num_proc": 0}, "num_proc must be at least 1"),
        ({"recordings_per_shard": 0}, "recordings_per_shard must be at least 1"),
        ({"shard_index": 3, "num_shards": 3}, r"shard_index must be 0 to 2 \(num_shards - 1\), but is 3"),
        ({"rows": {"site": "A"}}, "There is no column 'site'"),
    ],
)
def test_wrong_arguments(manifest, tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        prepare(manifest, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="trim_seconds must be zero or positive, but is -1"):
        RejectionRules(trim_seconds=-1)


def test_another_output_is_not_overwritten(manifest, tmp_path):
    prepare(manifest, tmp_path / "out")
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=2.0)
    with pytest.raises(ValueError, match="made with other settings: encoding, extractor. Choose another output"):
        prepare_dataset(manifest, extractor, tmp_path / "out", encoding="int8", **SETTINGS)
    with pytest.raises(ValueError, match="is not a data set of this program"):
        prepare(manifest, manifest.parent)
    table = pd.read_csv(manifest, dtype=str)
    pd.concat([table, table[:1]]).to_csv(manifest, index=False)
    with pytest.raises(ValueError, match="These rows are one recording"):
        prepare(manifest, tmp_path / "twice")


def test_push_to_hub(manifest, tmp_path, monkeypatch):
    """Private by default, and only if it is complete."""
    hub = Mock()
    hub.create_repo.return_value = "https://hub/someone/eeg"
    monkeypatch.setattr(preparation, "HfApi", lambda: hub)
    prepare(manifest, tmp_path / "out", shard_index=0, num_shards=2)
    with pytest.raises(ValueError, match="is not complete: summary.json is missing"):
        push_dataset(tmp_path / "out", "someone/eeg")
    assert not hub.mock_calls
    prepare(manifest, tmp_path / "out")
    assert push_dataset(tmp_path / "out", "someone/eeg") == "https://hub/someone/eeg"
    hub.create_repo.assert_called_once_with("someone/eeg", repo_type="dataset", private=True, exist_ok=True)
    uploaded = call("someone/eeg", tmp_path / "out", repo_type="dataset", ignore_patterns=["*.part/*"])
    assert hub.upload_large_folder.mock_calls == [uploaded]


@pytest.mark.slow
def test_the_program(manifest, tmp_path):
    settings = "--montage C3,C4-Cz --encoding int8 --rows dataset=one --min_recording_seconds 20 --trim_seconds 4"
    files = ("--source", manifest, "--output", tmp_path / "out")
    done = start_python("examples/prepare_dataset.py", *files, *settings.split())
    assert done.returncode == 0, done.stderr
    assert '"kept": 26' in done.stdout and "Preparing" in done.stderr
    dataset = EEGShardDataset(tmp_path / "out")
    assert len(dataset) == 26 and dataset[0]["input_values"].shape == (2, 256)


def test_trials_of_one_file_are_recordings(tmp_path):
    """Rows may choose parts of a file; each is a recording of its own name, and nobody's twice."""
    trials = np.empty(2, dtype=object)
    trials[:] = [np.random.default_rng(0).normal(0, 10, (4, 128 * seconds)) for seconds in (20, 12)]
    savemat(tmp_path / "a.mat", {"eeg": trials})
    row = {"file": "a.mat", "subject": "1", "sampling_rate": 128, "unit": "uV", "channel_names": "C3 Cz C4 Pz"}
    table = pd.DataFrame([row | {"trial": trial} for trial in (0, 1)])
    table.to_csv(tmp_path / "trials.csv", index=False)
    options = {
        "rules": RejectionRules(min_recording_seconds=0, trim_seconds=0, max_microvolts=None, min_microvolts=None)
    }
    extractor = NeurIPTFeatureExtractor(montage=["C3", "C4"])
    prepare_dataset(tmp_path / "trials.csv", extractor, tmp_path / "out", **options)
    kept = {outcome.recording: outcome.windows_kept for outcome in read_outcomes(tmp_path / "out")}
    assert kept == {"a.mat, trial 0": 5, "a.mat, trial 1": 3}
    table.assign(trial=0).to_csv(tmp_path / "trials.csv", index=False)
    with pytest.raises(ValueError, match="These rows are one recording"):
        prepare_dataset(tmp_path / "trials.csv", extractor, tmp_path / "again", **options)
