"""Many recordings in, a BIDS derivatives data set out: the same bytes whatever happens on the way."""

import hashlib
import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import mne_bids
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet
import pytest
import torch
from conftest import COMPACT, small_config, write_recording
from safetensors.torch import load_file, save_file
from scipy.io import savemat
from transformers import AutoModel, pipeline

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForSequenceClassification, save_checkpoint
from neuript_hf.__main__ import main
from neuript_hf.compact_embedding import names_of_numbers
from neuript_hf.data.jobs import Share, fresh_processes, share_of_this_job
from neuript_hf.electrodes import LOBES
from neuript_hf.integrations import derivatives
from neuript_hf.integrations.derivatives import Derivation, write_derivatives


# `make kill-test` kills more often and takes more recordings.
KILLS = int(os.environ.get("NEURIPT_KILLS", 1))
RECORDINGS = int(os.environ.get("NEURIPT_RECORDINGS", 12))
PACKAGE = derivatives.__name__


def make_checkpoint(folder, **fields) -> str:
    torch.manual_seed(0)
    model = NeurIPTForSequenceClassification(small_config(num_labels=2, id2label={0: "left", 1: "right"}, **fields))
    save_checkpoint(model, NeurIPTFeatureExtractor(montage="as_recorded"), folder)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("compact"), **COMPACT)


def name_of(person, session="a"):
    return f"sub-{person:02}/ses-{session}/eeg/sub-{person:02}_ses-{session}_task-rest"


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    """A BIDS root: three people, one of them with a session that cannot be read; time marked as bad in the first."""
    root = tmp_path_factory.mktemp("study") / "bids"
    for person in (1, 2, 3):
        write_recording(root / f"{name_of(person)}_eeg.fif", person, seconds=18, annotations=[(5.0, 1.0, "BAD cough")])
    broken = root / f"{name_of(2, 'b')}_eeg.edf"
    broken.parent.mkdir(parents=True)
    broken.write_text("nothing of the kind")
    (root / "dataset_description.json").write_text('{"Name": "A study", "DatasetDOI": "doi:10.1/study"}')
    return root


@pytest.fixture(scope="module")
def reference(bids, checkpoint):
    destination = bids.parent / "reference"
    summary = embed(bids, destination, checkpoint)
    return destination, summary


def embed(source, destination, model, settings=None, **arguments):
    derivation = Derivation("eeg-embedding", model, **(settings or {}))
    return write_derivatives(source, destination, derivation, **arguments)


def content(folder):
    """Every file of a folder, byte for byte."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bids_root(bids, checkpoint, reference):
    """A table and a sidecar for each recording, under names that mne-bids finds; what failed is in a table."""
    destination, summary = reference
    assert (summary.recordings, summary.finished, summary.skipped, summary.windows) == (4, 3, 0, 9)
    assert set(content(destination)) == {
        "dataset_description.json",
        "failures.tsv",
        f"{name_of(2, 'b')}_embeddings.json",
        *(f"{name_of(person)}_embeddings.{kind}" for person in (1, 2, 3) for kind in ("json", "parquet")),
    }
    found = mne_bids.BIDSPath(
        root=destination, subject="01", session="a", task="rest", datatype="eeg", suffix="embeddings", check=False
    ).update(extension=".parquet")
    assert mne_bids.get_entity_vals(destination, "subject") == ["01", "02", "03"]

    table = pd.read_parquet(found.fpath)
    config = AutoModel.from_pretrained(checkpoint).config
    assert list(table) == ["recording", "subject", "onset", "duration", *names_of_numbers(config, list(LOBES))]
    source = bids / f"{name_of(1)}_eeg.fif"
    rows = pipeline("eeg-embedding", model=checkpoint)(source)
    assert table["onset"].tolist() == [row["onset"] for row in rows] == [0, 8, 12]
    np.testing.assert_array_equal(table.iloc[:, 4:].to_numpy(), np.stack([row["embedding"] for row in rows]))
    assert set(table["recording"]) == {f"{name_of(1)}_eeg.fif"} and set(table["subject"]) == {"01"}

    sidecar = json.loads(found.fpath.with_suffix(".json").read_text())
    weights = (Path(checkpoint) / "model.safetensors").read_bytes()
    assert sidecar["WeightsSHA256"] == hashlib.sha256(weights).hexdigest()
    assert sidecar["Sources"] == [f"bids:source:{name_of(1)}_eeg.fif"] and sidecar["Windows"] == 3
    assert sidecar["Settings"]["extractor"]["montage"] == "as_recorded"
    assert [channel["name"] for channel in sidecar["ChannelReports"][0]["channels"]] == ["C3", "Cz", "C4", "Pz"]
    assert any("1 of 4 windows rejected" in line for line in sidecar["WindowsLeftOut"])
    assert any("the last 2.00 s do not fill a window" in line for line in sidecar["WindowsLeftOut"])
    assert sidecar["SoftwareVersions"]["torch"] == torch.__version__

    description = json.loads((destination / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Name"] == "neuript_hf"
    assert description["SourceDatasets"] == [{"URL": "../bids", "DOI": "doi:10.1/study"}]
    (failure,) = pd.read_csv(destination / "failures.tsv", sep="\t").to_dict("records")
    assert failure["recording"] == f"{name_of(2, 'b')}_eeg.edf" and "header is broken" in failure["reason"]
    assert str(bids) not in "".join(map(str, content(destination).values()))


def test_what_is_finished_is_left_alone(bids, checkpoint, reference, tmp_path):
    destination = shutil.copytree(reference[0], bids.parent / "again")
    times = {path: path.stat().st_mtime_ns for path in destination.rglob("*.parquet")}
    summary = embed(bids, destination, checkpoint)
    assert (summary.skipped, summary.finished, len(summary.failures)) == (3, 0, 1)
    assert {path: path.stat().st_mtime_ns for path in times} == times and content(destination) == content(reference[0])
    with pytest.raises(
        ValueError, match="made with others of these: Settings.extractor.notch_freq, Settings.stride_s"
    ):
        extractor = NeurIPTFeatureExtractor(montage="as_recorded", notch_freq=20).to_dict()
        embed(bids, destination, checkpoint, {"extractor": extractor, "stride_seconds": 2})
    other = make_checkpoint(tmp_path / "other", **COMPACT | {"connectivity_bands": [[4, 8], [8, 12]]})
    with pytest.raises(ValueError, match="others of these: Configuration.connectivity_bands. Choose another"):
        embed(bids, destination, other)
    weights = load_file(f"{checkpoint}/model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, f"{other}/model.safetensors", {"format": "pt"})
    shutil.copy(f"{checkpoint}/config.json", other)
    with pytest.raises(ValueError, match="others of these: WeightsSHA256. Choose another destination"):
        embed(bids, destination, other)
    with pytest.raises(ValueError, match="is no data set of this program"):
        embed(bids, bids, checkpoint)
    # a model of another name with the same weights is the same model
    renamed = shutil.copytree(checkpoint, tmp_path / "renamed")
    assert embed(bids, destination, str(renamed)).skipped == 3


def test_a_failure_is_tried_again(checkpoint, tmp_path):
    """Recordings that are repaired get their result; the table of failures goes with the last of them."""
    path = write_recording(tmp_path / "study" / "a_raw.fif", 1, seconds=8)
    good = path.read_bytes()
    path.write_bytes(good[:3000])
    assert list(embed(path.parent, tmp_path / "out", checkpoint).failures) == ["a_raw.fif"]
    assert set(content(tmp_path / "out")) == {"dataset_description.json", "failures.tsv", "a_embeddings.json"}
    with pytest.raises(ValueError, match="a_raw.fif: "):
        embed(path.parent, tmp_path / "out", checkpoint, on_error="raise")
    path.write_bytes(good)
    assert embed(path.parent, tmp_path / "out", checkpoint).finished == 1
    assert set(content(tmp_path / "out")) == {"dataset_description.json", "a_embeddings.json", "a_embeddings.parquet"}


def test_nothing_depends_on_who_shared_the_work(bids, checkpoint, reference):
    """Jobs in any order, people one by one, and a second call that finds everything done."""
    expected = content(reference[0])
    jobs, people = bids.parent / "jobs", bids.parent / "people"
    for job in (2, 0, 1):
        embed(bids, jobs, checkpoint, share=Share(job, 3))
    assert content(jobs) == expected
    for person in ("03", "sub-01", "02"):
        embed(bids, people, checkpoint, participants=[person])
    assert content(people) == expected
    with pytest.raises(ValueError, match="no recordings of 04; there are those of 01, 02, 03"):
        embed(bids, people, checkpoint, participants=["01", "04"])


def test_stopped_at_every_write(bids, checkpoint, monkeypatch):
    """Whichever file is being written when a run is interrupted, the next run completes the data set."""
    embed(bids, bids.parent / "undisturbed", checkpoint, participants=["02"])
    expected = content(bids.parent / "undisturbed")
    assert len(expected) == 5  # description, table and sidecar, sidecar of a failure, failures
    for fatal in range(len(expected)):
        destination, calls = bids.parent / f"stopped-{fatal}", []

        def fail(file, calls=calls, fatal=fatal):
            calls.append(file)
            if len(calls) == 2 * fatal + 1:  # each file is followed by its folder
                os.ftruncate(file, os.fstat(file).st_size // 2)
                raise KeyboardInterrupt

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(KeyboardInterrupt):
            embed(bids, destination, checkpoint, participants=["02"])
        monkeypatch.undo()
        assert content(destination) != expected
        # and a kill leaves what no block cleans up
        left = destination / f"{name_of(2)}_embeddings.json.{'0' * 32}.part"
        if (destination / "dataset_description.json").exists():
            left.mkdir(parents=True)
            (left / "half.json").write_text("{")
        embed(bids, destination, checkpoint, participants=["02"])
        assert content(destination) == expected


@pytest.mark.slow
def test_killed_and_started_again(checkpoint, tmp_path):
    """
    Two jobs, killed (SIGKILL) NEURIPT_KILLS times in the middle of their work, and then one of two processes: the
    bytes of an undisturbed run. `make kill-test` takes more of NEURIPT_RECORDINGS, kills more often, and looks at the
    memory, too.
    """
    source, reference, output = tmp_path / "source", tmp_path / "reference", tmp_path / "output"
    for number in range(RECORDINGS):
        name = source / f"site-{number % 3}" / f"sub-{number:04}_raw.fif"
        if number % 10 == 5:
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_bytes(b"\0" * 500)
        else:
            write_recording(name, number, seconds=4)
    failed = len(range(5, RECORDINGS, 10))
    settings = Derivation("eeg-embedding", checkpoint)

    def start(destination, job):
        arguments = {"share": Share(job, 2)}
        process = fresh_processes(PACKAGE).Process(
            target=write_derivatives, args=(source, destination, settings), kwargs=arguments
        )
        process.start()
        return process

    def run(destination, until=None):
        """Starts both jobs, and kills them when this many tables are there; the memory of one of them by time."""
        jobs, memory = [start(destination, job) for job in (0, 1)], []
        while any(job.is_alive() for job in jobs) and (until is None or count(destination) < until):
            time.sleep(0.01)
            with suppress(psutil.NoSuchProcess):  # it may end at any moment
                memory.append(psutil.Process(jobs[0].pid).memory_info().rss / 2**20)
        for job in jobs:
            if until is not None:
                job.kill()
            job.join()
            assert job.exitcode == 0 or until is not None
        return memory

    began = time.monotonic()
    memory = run(reference)
    seconds = time.monotonic() - began
    expected = content(reference)
    assert count(reference) == RECORDINGS - failed
    assert len(pd.read_csv(reference / "failures.tsv", sep="\t")) == failed
    done = []
    for until in np.linspace(1, 0.7 * RECORDINGS, KILLS).astype(int):
        run(output, until)
        done.append(count(output))
    assert done == sorted(done) and done[-1] < RECORDINGS - failed
    write_derivatives(source, output, settings, num_proc=2)
    assert content(output) == expected
    if RECORDINGS >= 1000:  # in a few seconds the libraries are still being loaded
        early, late = (max(part) for part in np.array_split(memory[len(memory) // 4 :], 3)[::2])
        print(
            f"{RECORDINGS} recordings by two jobs: {seconds:.0f} s, {RECORDINGS / seconds:.1f} a second, {failed} "
            f"failed; killed when {done} were done; memory of a job {early:.0f} MB early, {late:.0f} MB late"
        )
        assert late < early + 20


def count(folder):
    return sum(name.endswith(".parquet") for *_, names in os.walk(folder) for name in names)


def test_a_manifest(checkpoint, tmp_path):
    """Its rows choose parts of files, and say what these do not; files may lie anywhere."""
    trials = np.empty(2, dtype=object)
    trials[:] = [np.random.default_rng(0).normal(0, 10, (4, 128 * seconds)) for seconds in (12, 8)]
    (tmp_path / "lab").mkdir()
    savemat(tmp_path / "lab" / "a.mat", {"eeg": trials})
    write_recording(tmp_path / "elsewhere" / "b_raw.fif", 1, seconds=8, names=[f"A{k}" for k in range(1, 17)])
    row = {"file": "a.mat", "subject": "1", "sampling_rate": 128, "unit": "uV", "channel_names": "C3 Cz C4 Pz"}
    other = {"file": "../elsewhere/b_raw.fif", "subject": "2", "net": "biosemi16"}
    rows = [row | {"trial": 0}, row | {"trial": 1}, other]
    pd.DataFrame(rows, dtype=object).to_csv(tmp_path / "lab" / "list.csv", index=False)
    summary = embed(tmp_path / "lab" / "list.csv", tmp_path / "out", checkpoint)
    assert not summary.failures
    tables = {
        name: pd.read_parquet(tmp_path / "out" / name) for name in content(tmp_path / "out") if "parquet" in name
    }
    assert {name: len(table) for name, table in tables.items()} == {
        "elsewhere/b_embeddings.parquet": 2,
        "lab/a_trial-0_embeddings.parquet": 3,
        "lab/a_trial-1_embeddings.parquet": 2,
    }
    assert tables["lab/a_trial-1_embeddings.parquet"]["recording"].tolist() == 2 * ["lab/a.mat, trial 1"]
    sidecar = json.loads((tmp_path / "out" / "elsewhere" / "b_embeddings.json").read_text())
    assert sidecar["ChannelReports"][0]["channels"][0]["name"] == "Fp1"


def test_two_recordings_of_one_name(checkpoint, tmp_path):
    for name in ("a_raw.fif", "a.fif"):
        write_recording(tmp_path / name, name == "a.fif", seconds=8)
    with pytest.raises(ValueError, match="a.fif and a_raw.fif would both be written to a_embeddings.parquet"):
        embed([tmp_path / "a_raw.fif", tmp_path / "a.fif"], tmp_path / "out", checkpoint)
    with pytest.raises(ValueError, match="a.fif and a.fif would both be written .* Keep one row for each recording"):
        embed([tmp_path / "a.fif", tmp_path / "a.fif"], tmp_path / "out", checkpoint)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="There is no recording at .*b.edf"):
        embed([tmp_path / "a.fif", tmp_path / "b.edf"], tmp_path / "out", checkpoint)
    with pytest.raises(ValueError, match="is a folder or a manifest, but there are 2 sources"):
        embed([tmp_path / "a.fif", tmp_path], tmp_path / "out", checkpoint)


def test_answers_and_embeddings_without_names(bids, tmp_path):
    """A column for each class; numbers without names are one list of fixed length."""
    model = make_checkpoint(tmp_path / "plain")
    source = bids / f"{name_of(3)}_eeg.fif"
    derivation = Derivation("eeg-classification", model, stride_seconds=2.0)
    write_derivatives(source, tmp_path / "answers", derivation)
    answers = pd.read_parquet(tmp_path / "answers" / f"{name_of(3)}_predictions.parquet")
    assert list(answers)[2:] == ["onset", "duration", "label", "score", "score_left", "score_right"]
    np.testing.assert_allclose(answers["score_left"] + answers["score_right"], 1, atol=1e-6)
    assert set(np.diff(answers["onset"])) == {2.0, 6.0}
    embed(source, tmp_path / "vectors", model)
    table = pyarrow.parquet.read_table(tmp_path / "vectors" / f"{name_of(3)}_embeddings.parquet")
    assert table.schema.field("embedding").type.list_size == 7 * 5 * 16


@pytest.mark.parametrize("source", ["memory", "zip"])
def test_urls(bids, checkpoint, reference, tmp_path, source):
    """Sources and destinations by fsspec: the same results, and where the recordings are as a URL."""
    pytest.importorskip("upath")
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    if source == "memory":
        memory.put(f"{bids}/", "/bids", recursive=True)
        address = "memory://bids"
    else:
        address = f"zip://::{shutil.make_archive(tmp_path / 'bids', 'zip', bids)}"
    assert main(["embed", address, f"memory://{source}-out", "--model", checkpoint]) == 1  # one cannot be read
    memory.get(f"/{source}-out/", str(tmp_path / "out"), recursive=True)
    found, expected = content(tmp_path / "out"), dict(content(reference[0]))
    description = json.loads(found.pop("dataset_description.json"))
    expected.pop("dataset_description.json")
    assert description["SourceDatasets"][0]["URL"].startswith(f"{source}://")
    assert found == expected
    assert not [name for name in memory.find("/") if ".part" in name]
    summary = embed(address, f"memory://{source}-out", checkpoint)
    assert (summary.skipped, summary.finished) == (3, 0)


def test_a_url_without_its_package(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr("neuript_hf.data.remote.find_spec", lambda name: None)
    assert main(["embed", "s3://bucket/study", "out", "--model", checkpoint]) == 1
    assert "pip install universal_pathlib" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, (0, 1)),
        ({"SLURM_ARRAY_TASK_ID": "0", "MIN": "0", "MAX": "19", "STEP": "1", "COUNT": "20"}, (0, 20)),
        ({"SLURM_ARRAY_TASK_ID": "20", "MIN": "1", "MAX": "20", "STEP": "1", "COUNT": "20"}, (19, 20)),
        ({"SLURM_ARRAY_TASK_ID": "7", "MIN": "1", "MAX": "9", "STEP": "2", "COUNT": "5"}, (3, 5)),
        ({"SLURM_ARRAY_TASK_ID": "7", "MIN": "7", "MAX": "7", "STEP": "1", "COUNT": "1"}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
        (
            {"SLURM_ARRAY_TASK_ID": "2", "MIN": "1", "MAX": "3", "STEP": "1", "COUNT": "3"}
            | {"RANK": "1", "WORLD_SIZE": "2"},
            (3, 6),
        ),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (0, 1)),
    ],
)
def test_shares_of_jobs(environment, share):
    """Together the shares of a cluster's jobs are everything, and none is in two of them."""
    names = {name: f"SLURM_ARRAY_TASK_{name}" for name in ("MIN", "MAX", "STEP", "COUNT")}
    found = share_of_this_job(environment={names.get(name, name): value for name, value in environment.items()})
    assert (found.index, found.count) == share
    parts = [Share(index, found.count).of(range(50)) for index in range(found.count)]
    assert sorted(number for part in parts for number in part) == list(range(50))


def test_shares_that_cannot_be():
    holes = {"ID": "3", "MIN": "3", "MAX": "9", "STEP": "1", "COUNT": "2"}
    with pytest.raises(ValueError, match=r"has holes \(2 tasks from 3 to 9 in steps of 1\).*num_shards=20"):
        share_of_this_job(environment={f"SLURM_ARRAY_TASK_{name}": value for name, value in holes.items()})
    with pytest.raises(ValueError, match="belong together"):
        share_of_this_job(shard_index=1)
    with pytest.raises(ValueError, match=r"shard_index must be 0 to 2 \(num_shards - 1\), but is 3"):
        share_of_this_job(3, 3)
