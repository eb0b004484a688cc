"""`python -m neuript_hf`: a file in, a report, a table of embeddings or of classes out."""

import json
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_raw, small_config, start_python

from neuript_hf import NeurIPTConfig, NeurIPTFeatureExtractor, NeurIPTForSequenceClassification, save_checkpoint
from neuript_hf.__main__ import main, parse, take_destination
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.electrodes import LOBES


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    simulate_dataset(folder, n_subjects=3, seed=0, n_trials=4)
    return str(sorted(folder.glob("*.fif"))[0])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model = NeurIPTForSequenceClassification(small_config(num_labels=2, id2label={0: "left", 1: "right"}))
    save_checkpoint(model, NeurIPTFeatureExtractor(montage=["C3", "Cz", "C4"]), folder)
    return str(folder)


def test_inspect(recording, capsys):
    assert main(["inspect", recording, "--montage", "C3-Cz", "Cz-C4"]) == 0
    printed = capsys.readouterr().out
    first = printed.splitlines()[0]
    assert first.startswith(f"{recording}: the model sees 2 channels made from 3 of ")
    assert " windows of 4 s; recorded at " in first
    assert "derived pair" in printed and "C3-Cz" in printed and "not in the montage" in printed
    assert "annotations: 2 'left_hand', 2 'right_hand'" in printed


def test_inspect_names_the_most_frequent_annotations(tmp_path, capsys):
    raw = make_raw(np.random.default_rng(0).normal(0, 1e-5, (3, 60 * 128)), ["C3", "Cz", "C4"])
    names = [f"event {number:02d}" for number in range(10) for _ in range(10 - number)]
    raw.set_annotations(mne.Annotations(np.arange(len(names)), 0, names))
    raw.save(tmp_path / "many_raw.fif")
    main(["inspect", str(tmp_path / "many_raw.fif")])
    printed = capsys.readouterr().out
    assert "annotations: 10 'event 00', 9 'event 01', " in printed and "3 'event 07', and 2 more\n" in printed


def test_inspect_says_what_is_wrong(tmp_path, capsys):
    """The report is printed all the same; the exit status is 1."""
    table = pd.DataFrame(np.random.default_rng(0).normal(0, 1e-4, (1000, 2)), columns=["C3", "C4"])
    table.insert(0, "time", np.arange(1000) / 250)
    table.to_csv(tmp_path / "quiet.csv", index=False)
    assert main(["inspect", str(tmp_path / "quiet.csv"), "--unit", "uV"]) == 1
    printed = capsys.readouterr().out
    assert "problem: Taken as uV" in printed and "C3" in printed
    assert main(["inspect", str(tmp_path / "quiet.csv"), "--unit", "V"]) == 0


def test_inspect_shows_what_a_checkpoint_sees(recording, checkpoint, capsys):
    """Its montage, less the channels that the user drops; a channel that the recording does not have is an error."""
    assert main(["inspect", recording, "--model", checkpoint]) == 0
    assert "the model sees 3 of " in capsys.readouterr().out
    assert main(["inspect", recording, "--model", checkpoint, "--on_missing", "drop", "--drop", "Cz"]) == 0
    printed = capsys.readouterr().out
    assert "the model sees 2 of " in printed and "left out, as you asked: Cz" in printed
    assert main(["inspect", recording, "--drop", "Cz", "--drop", "F99"]) == 1
    assert "There is no channel F99 to drop" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "bads", "problem"),
    [(3.0, [], "too short: the recording lasts 3 s"), (20.0, ["C3", "C4"], "All channels are bad (marked as bad)")],
)
def test_inspect_fails_where_nothing_is_left(tmp_path, capsys, seconds, bads, problem):
    raw = make_raw(np.random.default_rng(0).normal(0, 1e-5, (2, int(seconds * 128))), ["C3", "C4"])
    raw.info["bads"] = bads
    raw.save(tmp_path / "rest_raw.fif")
    assert main(["inspect", str(tmp_path / "rest_raw.fif")]) == 1
    printed = capsys.readouterr().out
    assert f"problem: {problem}" in printed.replace("The recording is t", "t")
    assert ("no window" in printed.splitlines()[0]) == (seconds < 4)


def test_inspect_as_json_accounts_for_every_channel(recording, capsys):
    assert main(["inspect", recording, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    used = {source["name"] for row in report["channels"] for source in row["sources"]}
    assert used | set(report["dropped"]) == set(mne.io.read_raw(recording).ch_names)


def test_inspect_goes_on_after_a_file_that_fails(recording, capsys):
    assert main(["inspect", "no.edf", recording]) == 1
    printed = capsys.readouterr()
    assert "no.edf" in printed.err and printed.out.startswith(f"{recording}: the model sees")


def test_inspect_as_json_of_a_file_that_fails(capsys):
    assert main(["inspect", "no.edf", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_embed(recording, checkpoint, tmp_path, suffix, capsys):
    """The table holds what the pipeline gives, whatever its format."""
    output = tmp_path / f"table{suffix}"
    arguments = ["embed", recording, "--model", checkpoint, "--stride_seconds", "8", "-o", str(output)]
    assert main(arguments) == 0
    assert f"windows to {output}" in capsys.readouterr().out
    read = {".parquet": pd.read_parquet, ".csv": pd.read_csv, ".jsonl": lambda path: pd.read_json(path, lines=True)}
    table = read[suffix](output)
    assert np.allclose(np.diff(table["onset"]), 8) and (table["duration"] == 4).all()
    if suffix == ".csv":
        vectors = table.filter(like="embedding_").to_numpy()
    else:
        vectors = np.stack(table["embedding"])
    assert vectors.shape == (len(table), 7 * 5 * 16) and np.isfinite(vectors).all() and vectors.std() > 0
    assert not list(tmp_path.glob("*.part"))


def test_predict(recording, checkpoint, tmp_path, capsys):
    output = tmp_path / "classes.csv"
    assert main(["predict", recording, "--model", checkpoint, "-o", str(output)]) == 0
    assert "companding" in capsys.readouterr().out  # the report comes with it
    table = pd.read_csv(output)
    assert set(table["label"]) <= {"left", "right"} and table["score"].between(0.5, 1).all()
    assert np.allclose(table["score_left"] + table["score_right"], 1)
    assert main(["predict", recording, "--model", checkpoint]) == 0
    printed = capsys.readouterr().out
    assert printed.count("left") + printed.count("right") >= len(table)


@pytest.mark.parametrize("command", ["embed", "predict"])
def test_several_files_one_of_them_broken(recording, checkpoint, tmp_path, command, capsys):
    """The error names the file; with `skip` the others are done, and what failed is in a table."""
    broken = tmp_path / "broken.edf"
    broken.write_text("nothing of the kind")
    output = tmp_path / "table.csv"
    arguments = [command, recording, str(broken), recording, "--model", checkpoint, "-o", str(output)]
    assert main(arguments) == 1 and not output.exists()
    error = capsys.readouterr().err
    assert error.count(str(broken)) == 1 and "Traceback" not in error and "--on_error skip" in error
    assert main([*arguments, "--on_error", "skip"]) == 1
    assert set(pd.read_csv(output)["recording"]) == {recording}
    failures = pd.read_csv(tmp_path / "table.failures.csv")
    assert list(failures["recording"]) == [str(broken)] and failures["reason"].str.contains("broken.edf").all()
    reports = json.loads((tmp_path / "table.reports.json").read_text())
    assert list(reports) == [recording] and reports[recording][0]["channels"]


def test_inspect_says_what_a_head_does_not_read(recording, tmp_path, capsys):
    """As `predict` would: a line where some channels are not read, a problem where none is."""
    model = NeurIPTForSequenceClassification(small_config(num_labels=2))
    with torch.no_grad():
        model.classifier.weight.unflatten(1, (7, 5, 16))[:, :, LOBES.index("parietal")] = 0
    for montage, status, words in (
        (["C3", "Fz"], 0, "not read by the model: C3"),
        (["C3", "Cz", "C4"], 1, "problem: The model reads none of the good channels"),
    ):
        save_checkpoint(model, NeurIPTFeatureExtractor(montage=montage), tmp_path)
        arguments = [recording, "--model", str(tmp_path), "--on_missing", "drop"]
        assert main(["inspect", *arguments]) == status
        assert words in capsys.readouterr().out
        assert main(["predict", *arguments]) == status


def test_what_goes_wrong_is_one_line(recording, checkpoint, tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nothing.edf")]) == 1
    assert "No recording at" in capsys.readouterr().err
    assert main(["inspect", recording, "--montage", "bcic_iv_2a", "--on_missing", "raise"]) == 1
    assert "needs channels that the recording does not have" in capsys.readouterr().err
    np.save(tmp_path / "array.npy", np.zeros((2, 1000)))
    assert main(["inspect", str(tmp_path / "array.npy")]) == 1
    assert "sampling_rate=250" in (error := capsys.readouterr().err) and "--unit uV" in error
    assert main(["embed", recording, "--model", f"{checkpoint}-2"]) == 1
    error = capsys.readouterr().err
    assert (
        f"There is no folder {checkpoint}-2. Checkpoints beside it: " in error and checkpoint in error.split(": ")[1]
    )
    NeurIPTConfig.tiny().save_pretrained(tmp_path)
    assert main(["embed", recording, "--model", str(tmp_path)]) == 1
    assert f"{tmp_path} has no weights" in capsys.readouterr().err
    assert main(["embed", recording, "--model", checkpoint, "-o", "table.xlsx"]) == 1
    assert ".parquet" in capsys.readouterr().err


@pytest.mark.slow
def test_as_a_program():
    """Started as users start it; a missing file gives a message and no traceback."""
    run = start_python("-m", "neuript_hf", "inspect", "no.edf")
    assert run.returncode == 1 and run.stderr.strip() == "No recording at no.edf." and "Traceback" not in run.stderr


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("made_tuh_ref_250hz.edf", []),
        ("biosemi_a1_a16_256hz.bdf", ["--net", "biosemi16"]),
        ("eeglab_tutorial_chanlocs.set", []),
        ("muse_lsl_256hz.csv", ["--unit", "uV"]),
    ],
)
def test_awkward_files_as_a_new_user_would(name, arguments, shared_data, checkpoint, tmp_path):
    """From the file to the report and to embeddings, in two commands."""
    about = [str(shared_data / "edge_cases" / "files" / name), *arguments, "--montage", "as_recorded"]
    assert main(["inspect", *about]) == 0
    output = tmp_path / "embeddings.parquet"
    assert main(["embed", *about, "--model", checkpoint, "-o", str(output)]) == 0
    vectors = np.stack(pd.read_parquet(output)["embedding"])
    assert len(vectors) > 1 and np.isfinite(vectors).all()


def test_a_folder_and_a_destination(recording, checkpoint, tmp_path, monkeypatch, capsys):
    """One table and one sidecar for each recording of the folder; a job's share comes from where it runs."""
    source = str(Path(recording).parent)
    arguments = ["embed", source, str(tmp_path / "out"), "--model", checkpoint, "--stride_seconds", "8"]
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert main(arguments) == 0
        assert f"This job has shard {rank} of 2 (RANK={rank}, WORLD_SIZE=2)." in capsys.readouterr().out
    assert main([*arguments, "--shard-index", "0", "--num-shards", "1"]) == 0
    printed = capsys.readouterr().out
    assert "3 recordings, 3 were done before" in printed and str(tmp_path / "out") in printed
    assert len(list((tmp_path / "out").glob("*_embeddings.parquet"))) == 3
    assert main([*arguments, "--stride_seconds", "4"]) == 1
    assert "others of these: Settings.stride_seconds. Choose another destination" in capsys.readouterr().err
    broken = tmp_path / "broken.edf"
    broken.write_text("nothing of the kind")
    arguments = ["embed", recording, str(broken), str(tmp_path / "other"), "--model", checkpoint]
    assert main([*arguments, "--num-shards", "1", "--shard-index", "0"]) == 0  # torchrun would end the others
    monkeypatch.delenv("RANK")
    assert main(arguments) == 1
    assert "header is broken" in capsys.readouterr().err and (tmp_path / "other" / "failures.tsv").exists()


def test_people_of_a_manifest(recording, checkpoint, tmp_path, capsys):
    manifest = Path(recording).with_name("manifest.csv")
    person = pd.read_csv(manifest, dtype=str)["subject"][1]
    arguments = ["predict", str(manifest), str(tmp_path / "out"), "participant", "--participant-label", person]
    assert main([*arguments, "--model", checkpoint]) == 0
    (table,) = (pd.read_parquet(path) for path in (tmp_path / "out").rglob("*_predictions.parquet"))
    assert set(table["subject"]) == {person} and set(table["label"]) <= {"left", "right"}
    assert main([*arguments[:-1], "nobody", "--model", checkpoint]) == 1
    assert "no recordings of nobody; there are those of" in capsys.readouterr().err
    # the same people in one table
    table = tmp_path / "table.parquet"
    assert (
        main(["predict", str(manifest), "--participant-label", person, "--model", checkpoint, "-o", str(table)]) == 0
    )
    assert pd.read_parquet(table)["recording"].nunique() == 1


@pytest.mark.parametrize(
    ("sources", "destination"),
    [
        (["a.edf"], None),
        (["a.edf", "b.edf"], None),
        (["folder"], None),
        (["a.edf", "missing.edf"], None),
        (["a.edf", "recording.mff"], None),
        (["folder", "derivatives/neuript-0.2"], "derivatives/neuript-0.2"),
        (["a.edf", "b.edf", "folder"], "folder"),
        (["manifest.csv", "s3://bucket/out"], "s3://bucket/out"),
        (["folder", "out", "participant"], "out"),
    ],
)
def test_what_is_a_destination(sources, destination, tmp_path, monkeypatch):
    """The last of several names, where it is no recording: those are one table, as ever."""
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "recording.mff"):
        (tmp_path / name).mkdir()
    for name in ("a.edf", "b.edf", "manifest.csv"):
        (tmp_path / name).touch()
    monkeypatch.setattr("neuript_hf.__main__.path_or_url", Path)
    assert take_destination(parse(["embed", *sources, "--model", "M"])) == destination


def test_options_that_do_not_fit(recording, checkpoint, tmp_path, capsys):
    source, out = str(Path(recording).parent), str(tmp_path / "out")
    for arguments, words in (
        ([source, out, "group"], "no level 'group'"),
        ([source, "--num-proc", "2"], "write to a destination"),
        ([source, out, "--shard-index", "1"], "give both"),
        ([source, out, "participant", "-o", "a.parquet"], "either the destination"),
        ([source, source], "is no data set of this program"),
    ):
        assert main(["embed", *arguments, "--model", checkpoint]) == 1
        assert words in capsys.readouterr().err
