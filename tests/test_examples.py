"""The example programs, run as a user runs them, at the smallest size."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from compare_pretraining import ComparisonArguments
from conftest import ROOT, TWO_PROCESSES, run_python, start_python, threads_at_the_end, watch_threads
from PIL import Image
from safetensors.torch import load_file
from torch import distributed
from transformers import HfArgumentParser, pipeline

from neuript_hf import NeurIPTConfig, NeurIPTFeatureExtractor, NeurIPTForPreTraining, save_checkpoint, verify
from neuript_hf.checkpoints.card import write_model_card
from neuript_hf.checkpoints.training_record import read_training_record, refuse_seen
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.data.tasks import TaskArguments
from neuript_hf.training.arguments import parse_with_file
from neuript_hf.training.finetuning import FineTuningArguments, ModelArguments
from neuript_hf.training.processes import leave


SETTINGS = ROOT / "research" / "settings"
SMALL = json.dumps(
    {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
        "attention_dropout": 0.0,
    }
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return simulate_dataset(tmp_path_factory.mktemp("recordings"), n_subjects=5, seed=0)


@pytest.fixture(scope="module")
def finetuned(manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "hands-0"
    settings = {"montage": "C3,Cz,C4", "config": json.loads(SMALL), "seed": 9, "caution": "These people do not exist."}
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(settings))
    printed = run_python(
        *("examples/finetune.py", file, "--data", manifest, "--max_train_windows", "16"),
        *("--num_train_epochs", "1", "--use_cpu", "--save_strategy", "no", "--output_dir", folder, "--seed", "3"),
    )
    return folder, printed


@pytest.mark.parametrize("file", sorted(SETTINGS.glob("tasks/*.yaml")), ids=lambda file: file.stem)
def test_settings_of_task_weights(file, tmp_path):
    """One file, one checkpoint: only the data are missing, and it says what users must know."""
    parser = HfArgumentParser((TaskArguments, ModelArguments, FineTuningArguments))
    changes = ["--data", "manifest.csv", "--output_dir", str(tmp_path), "--use_cpu"]
    task, model, training = parse_with_file(parser, [str(file), *changes])
    assert task.data == "manifest.csv" and task.caution and Path(ROOT, model.model, "model.safetensors").exists()
    assert training.output_dir == str(tmp_path) and training.learning_rate == 3e-4


def test_settings_of_the_comparison():
    file = str(SETTINGS / "comparison.yaml")
    (arguments,) = parse_with_file(HfArgumentParser(ComparisonArguments), [file, "--data", "manifest.csv"])
    assert len(arguments.tasks) == 8 and arguments.shares == [1.0, 0.1] and len(arguments.seeds) == 3


@pytest.mark.slow
def test_finetune_from_files_to_metrics(finetuned):
    folder, printed = finetuned
    for words in ("unseen people", "chance 0.500", "frozen features + fit", "fine-tuned", "band power"):
        assert words in printed
    results = json.loads((folder / "results.json").read_text())
    for method in ("model", "head_start", "baseline"):
        low, high = results[method]["balanced_accuracy_interval"]
        assert 0 <= low <= results[method]["balanced_accuracy"] <= high <= 1
    assert results["windows"]["train"] == 16 and results["model"]["people"] == 2
    assert set(results["provenance"]) == {"command", "commit", "seed", "threads", "versions", "task"}
    assert results["provenance"]["seed"] == 3
    confidence = f"is {results['calibration']['confidence']:.2f} on average"
    assert confidence in (folder / "README.md").read_text() and 0.5 <= results["calibration"]["confidence"] <= 1


@pytest.mark.slow
def test_people_on_whom_the_best_epoch_is_chosen_are_scored_apart(manifest, tmp_path):
    """They are not among those who are called unseen, here and in later evaluations of the checkpoint."""
    epochs = ("--num_train_epochs", "2", "--eval_strategy", "epoch", "--save_strategy", "epoch")
    small = ("--montage", "C3,Cz,C4", "--max_train_windows", "16", "--baseline", "none")
    printed = run_python(
        *("examples/finetune.py", "--data", manifest, *small, "--config", SMALL, "--use_cpu", *epochs),
        *("--load_best_model_at_end", "true", "--report_to", "none", "--output_dir", tmp_path / "best"),
    )
    table = pd.read_csv(manifest, dtype=str)
    people = {split: part["subject"].unique().tolist() for split, part in table.groupby("split")}
    results = json.loads((tmp_path / "best" / "results.json").read_text())
    assert list(results["model"]["by_person"]) == results["tested_people"]["unseen"] == people["test"]
    apart = results["chosen_on"]
    assert apart["choices"] == ["load_best_model_at_end"] and list(apart["by_person"]) == people["val"]
    assert apart["tested_people"]["chosen_on"] == people["val"] and apart["tested_people"]["unseen"] == []
    assert "1 people on whom something was chosen, so they are not unseen (load_best_model_at_end)" in printed
    assert "1 unseen people" in printed
    record = read_training_record(tmp_path / "best")
    assert [subject.rpartition("/")[2] for subject in record.chosen_on] == people["val"]

    with pytest.raises(ValueError, match=f"On {record.chosen_on[0]} the best checkpoint or something else was chosen"):
        refuse_seen(TaskArguments(data=str(manifest)), tmp_path / "best")
    assert refuse_seen(TaskArguments(data=str(manifest), evaluate_on=["test"]), tmp_path / "best") == []


@pytest.mark.slow
def test_finetune_in_two_processes(manifest, tmp_path):
    """As one: the same losses where nothing is drawn at random, one checkpoint, one table."""
    config = json.dumps(json.loads(SMALL) | {"hidden_dropout": 0.0, "attention_dropout": 0.0, "router_noise": 0.0})
    losses = {}
    for name, batch, launcher in (("one", 8, ()), ("two", 4, TWO_PROCESSES)):
        printed = run_python(
            *(*launcher, "examples/finetune.py", "--data", manifest, "--montage", "C3,Cz,C4", "--config", config),
            *("--max_train_windows", "16", "--num_train_epochs", "2", "--per_device_train_batch_size", batch),
            *(
                "--optim",
                "sgd",
                "--use_cpu",
                "--logging_steps",
                1,
                "--save_strategy",
                "no",
                "--output_dir",
                tmp_path / name,
            ),
            **watch_threads(tmp_path),
        )
        assert printed.count("unseen people") == 1
        assert verify(tmp_path / name)["passed"]
        assert len(read_training_record(tmp_path / name).stages) == 1
        results = json.loads((tmp_path / name / "results.json").read_text())
        losses[name] = [entry["loss"] for entry in results["log"] if "loss" in entry]
    assert len(losses["one"]) == 4 and losses["two"] == pytest.approx(losses["one"], rel=1e-4)
    ends = threads_at_the_end(tmp_path)
    assert set(ends) == {0, 1} and not any("gloo" in names for names in ends.values())


def test_leaving_ends_what_joins_processes(tmp_path):
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    leave()
    assert not distributed.is_initialized()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU processes find each other")
@pytest.mark.parametrize("program", ["examples/finetune.py", "examples/pretrain.py"])
def test_processes_that_would_train_apart_are_refused(program, manifest, tmp_path):
    done = start_python(*TWO_PROCESSES, program, "--data", manifest, "--output_dir", tmp_path / "apart")
    assert done.returncode and "2 processes were started, but each would train by itself" in done.stderr
    assert not (tmp_path / "apart").exists()


@pytest.mark.slow
def test_a_finetuned_folder_is_a_checkpoint(finetuned, manifest):
    folder, _ = finetuned
    assert verify(folder)["passed"]
    rows = pipeline("eeg-classification", model=str(folder))(next(manifest.parent.glob("sub-01*.fif")))
    assert {row["label"] for row in rows} <= {"left_hand", "right_hand"} and len(rows) > 10


@pytest.mark.slow
def test_a_finetuned_folder_knows_whom_it_has_seen(finetuned, manifest, tmp_path):
    """The people it was tuned on; from another checkpoint on, theirs too. Nobody of them is scored unless allowed."""
    folder, _ = finetuned
    record = read_training_record(folder)
    table = pd.read_csv(manifest, dtype=str)
    people = {f"{manifest.parent.name}/{name}" for name in table[table["split"] == "train"]["subject"]}
    assert set(record.subjects) == people and record.stages[0].windows_seen == 16 and record.stages[0].seeds == [3]
    swapped = tmp_path / manifest.parent.name / "swapped.csv"
    swapped.parent.mkdir()
    table["file"] = [str(manifest.parent / file) for file in table["file"]]
    table["split"] = table["split"].map({"train": "test", "val": "train", "test": "train"})
    table.to_csv(swapped, index=False)
    command = ("--data", swapped, "--montage", "C3,Cz,C4", "--model", folder, "--max_train_windows", "8")
    done = start_python("examples/linear_probe.py", *command, "--output_dir", tmp_path / "refused")
    assert done.returncode != 0 and f"the weights have seen: {', '.join(sorted(people))}" in done.stderr
    assert not (tmp_path / "refused").exists()
    allowed = ("--allow_seen_people", "--use_cpu", "--save_strategy", "no", "--max_steps", "1", "--baseline", "none")
    run_python("examples/finetune.py", *command, *allowed, "--output_dir", tmp_path / "on")
    assert set(json.loads((tmp_path / "on" / "results.json").read_text())["seen_people"]) == people
    longer = read_training_record(tmp_path / "on")
    assert set(longer.subjects) > people and longer.stages[0] == record.stages[0] and len(longer.stages) == 2


@pytest.mark.slow
def test_model_card_from_results(finetuned):
    folder, _ = finetuned
    write_model_card(folder)
    card = (folder / "README.md").read_text()
    results = json.loads((folder / "results.json").read_text())
    assert card.startswith("---\n") and "hands-0" in card and "left_hand, right_hand" in card
    assert f"{results['model']['balanced_accuracy']:.3f}" in card and results["provenance"]["command"] in card
    assert "{{" not in card and "{%" not in card
    assert "## Limits\n\nThese people do not exist.\n\nA score on a few people" in card
    # tables without holes
    assert "|  |  |  |  |\n| fine-tuned |" in card and " |\n| classes | left_hand, right_hand |\n" in card


@pytest.mark.slow
def test_summary_of_several_seeds(finetuned):
    folder, _ = finetuned
    table = run_python("research/summarise.py", "--folders", folder)
    results = json.loads((folder / "results.json").read_text())
    assert "| hands | 2, " in table and f"{results['model']['balanced_accuracy']:.3f}" in table


@pytest.mark.slow
def test_embeddings_of_a_folder(manifest, tmp_path):
    stride = ("--stride_seconds", "20")
    run_python("examples/embed.py", "--recordings", manifest.parent, "--output", tmp_path / "table.parquet", *stride)
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert table["recording"].nunique() == 5 and {len(vector) for vector in table["embedding"]} == {230}
    recording = sorted(manifest.parent.glob("*.fif"))[1]
    run_python("examples/embed.py", "--recordings", recording, "--output", tmp_path / "one.parquet", *stride)
    one, same = pd.read_parquet(tmp_path / "one.parquet"), table[table["recording"] == str(recording)]
    assert one["onset"].tolist() == same["onset"].tolist()
    np.testing.assert_allclose(np.stack(one["embedding"]), np.stack(same["embedding"]), atol=1e-5)


def test_a_stride_that_cannot_be_is_refused(manifest, tmp_path, monkeypatch):
    recording = next(manifest.parent.glob("*.fif"))
    options = ("--recordings", str(recording), "--output", str(tmp_path / "a.parquet"), "--stride_seconds", "0")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["embed.py", *options])
    with pytest.raises(ValueError, match="stride_seconds must be a positive number"):
        runpy.run_path("examples/embed.py")["main"]()


@pytest.mark.slow
def test_adapters_are_merged_into_a_checkpoint(manifest, tmp_path):
    folder = tmp_path / "lora"
    printed = run_python(
        *("examples/lora.py", "--data", manifest, "--montage", "C3,Cz,C4", "--max_train_windows", "16", "--use_cpu"),
        *("--max_steps", "2", "--save_strategy", "no", "--report_to", "none", "--output_dir", folder),
    )
    assert "passed" in printed and "2 unseen people" in printed and verify(folder)["passed"]
    start, adapted = (load_file(path / "model.safetensors") for path in (ROOT / "hub" / "neuript-tiny", folder))
    changed = {name for name, weight in adapted.items() if name in start and not torch.equal(weight, start[name])}
    assert changed and all(("q_proj" in name) + ("v_proj" in name) + ("experts" in name) == 1 for name in changed)
    before, stage = read_training_record(folder).stages[-2:]
    assert before.kind == "pre-training" and stage.steps == 2 and stage.recipe["rank"] == 8


@pytest.mark.slow
def test_linear_probe_of_a_checkpoint(finetuned, manifest, tmp_path):
    folder, _ = finetuned
    printed = run_python(
        *("examples/linear_probe.py", "--data", manifest, "--montage", "C3,Cz,C4", "--model", folder),
        *("--max_train_windows", "16", "--output_dir", tmp_path),
    )
    assert "frozen features + fit" in printed
    assert "probe" in json.loads((tmp_path / "results.json").read_text())


@pytest.mark.slow
def test_demo_refuses_recordings_of_different_channels(manifest, tmp_path):
    folder = shutil.copytree(manifest.parent, tmp_path / "mixed")
    raw = mne.io.read_raw(folder / "sub-02_raw.fif", preload=True)
    raw.drop_channels(["Fz"]).save(folder / "sub-02_raw.fif", overwrite=True)
    done = start_python("examples/demo.py", "--data", folder, "--output_dir", tmp_path / "out")
    assert done.returncode != 0 and "different channels: [18, 19] of them" in done.stderr


@pytest.mark.slow
def test_demo_on_simulated_and_on_own_recordings(manifest, tmp_path):
    save_checkpoint(
        NeurIPTForPreTraining(NeurIPTConfig(**json.loads(SMALL))),
        NeurIPTFeatureExtractor(montage="as_recorded"),
        tmp_path / "weights",
    )
    small = ("--model", tmp_path / "weights", "--max_train_windows", 16, "--max_unseen_windows", 16, "--epochs", 1)
    small = (*small, "--people", 5)
    printed = run_python("examples/demo.py", "--output_dir", tmp_path / "simulated", *small)
    for words in ("exact", "band-pass", "unseen people", "fine-tuned", "from scratch", "band power", "passed"):
        assert words in printed
    record = read_training_record(tmp_path / "simulated" / "checkpoint")
    assert [stage.steps for stage in record.stages] == [2] and len(record.subjects) == 3
    with Image.open(tmp_path / "simulated" / "report.png") as picture:
        assert picture.width > 1000 and picture.height > 800
    assert verify(tmp_path / "simulated" / "checkpoint")["passed"]
    own = ("--data", manifest.parent, "--montage", "C3,C4", "--output_dir", tmp_path / "own")
    run_python("examples/demo.py", *own, *small)
    assert (tmp_path / "own" / "report.png").is_file()


@pytest.mark.parametrize("name", ["finetune", "linear_probe", "lora"])
def test_labels_are_refused_before_a_recording_is_opened_and_without_a_traceback(name, tmp_path, monkeypatch, capsys):
    """Also where the checkpoint's record has fingerprints, with which recordings would be compared."""
    monkeypatch.setattr("neuript_hf.training.cpu.keep_memory", lambda: None)
    for number in range(3):
        (tmp_path / f"{number}_raw.fif").write_bytes(b"broken %d" % number)
    rows = [(f"{k}_raw.fif", f"s{k}", split, 20.5 + k) for k, split in enumerate(("train", "val", "test"))]
    table = pd.DataFrame(rows, columns=["file", "subject", "split", "label"])
    table.to_csv(tmp_path / "manifest.csv", index=False)
    assert read_training_record(ROOT / "hub" / "neuript-tiny").fingerprints
    command = [name, "--data", tmp_path / "manifest.csv", "--model", ROOT / "hub" / "neuript-tiny"]
    monkeypatch.setattr("sys.argv", list(map(str, [*command, "--output_dir", tmp_path / "run"])))
    program = str(ROOT / "examples" / f"{name}.py")
    with pytest.raises(ValueError, match="such as 20.5 may be classes or numbers to predict"):
        runpy.run_path(program)["main"]()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(program, run_name="__main__")
    assert ended.value.code == 1
    refusal = capsys.readouterr().err
    assert "such as 20.5 may be" in refusal and "Traceback" not in refusal
    advice = re.search(r"is (--problem_type) (\w+), and so on\.\)", refusal)
    monkeypatch.setattr("sys.argv", [*sys.argv, advice[1], "regression"])
    with pytest.raises(ValueError, match="_raw.fif"):  # the labels are clear, so recordings are opened
        runpy.run_path(program)["main"]()


@pytest.mark.parametrize(("name", "option"), [("pretrain", "--data"), ("prepare_dataset", "--source")])
def test_other_programs_refuse_without_a_traceback(name, option, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("neuript_hf.training.cpu.keep_memory", lambda: None)
    output = "--output" if name == "prepare_dataset" else "--output_dir"
    monkeypatch.setattr("sys.argv", [name, option, str(tmp_path / "nowhere"), output, str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    refusal = capsys.readouterr().err
    assert ended.value.code == 1 and "nowhere" in refusal and "Traceback" not in refusal
