"""The pre-training program as a user runs it: to the end, killed and resumed, in two processes, again from weights."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from conftest import ONE_THREAD, ROOT, TWO_PROCESSES, run_python, start_python, threads_at_the_end, watch_threads
from learning_curve import read_curve
from safetensors.torch import load_file
from transformers import HfArgumentParser

from neuript_hf import NeurIPTFeatureExtractor, verify
from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.data.preparation import RejectionRules, prepare_dataset
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.training.arguments import parse_with_file
from neuript_hf.training.pretraining import DataArguments


SIZES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
    "decoder_size": 8,
}
# What makes a step of two processes that of one (Adam makes whole steps of gradients that are nothing but rounding).
EXACT = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "router_noise": 0.0}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_simulated(tmp_path_factory.mktemp("prepared"))


def prepare_simulated(folder):
    """Simulated people, one of them held out, in windows of three seconds."""
    manifest = simulate_dataset(folder / "recordings", n_subjects=5, seed=0)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=3.0)
    rules = RejectionRules(min_recording_seconds=0, trim_seconds=0, max_microvolts=None, min_microvolts=None)
    prepare_dataset(manifest, extractor, folder / "data", rules=rules)
    return folder / "data"


CHANGES = {"max_channels": 3, "montages": {"as_recorded": 0.5, "bipolar": 0.5}, "amplitude_jitter": 1.2}


def command(prepared, folder, *arguments, steps=6, changes=CHANGES, **config):
    settings = changes | {
        "data": [str(prepared)],
        "config": SIZES | config,
        "whole_share": 0.3,
        "spectral_target": True,
        "output_dir": str(folder),
        "use_cpu": True,
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "monitor_steps": 3,
        "disable_tqdm": True,
    }
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return [str(ROOT / "examples" / "pretrain.py"), str(file), *map(str, arguments)]


def losses(folder):
    return [entry["loss"] for entry in state(folder)["log_history"] if "loss" in entry]


def state(folder):
    states = folder.glob("checkpoint-*/trainer_state.json")
    return json.loads(max(states, key=lambda path: int(path.parent.name[11:])).read_text())


@pytest.fixture(scope="module")
def whole_run(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_python(*command(prepared, folder))
    return folder


@pytest.mark.slow
def test_a_checkpoint_that_is_complete(whole_run):
    assert verify(whole_run)["passed"]
    (stage,) = read_training_record(whole_run).stages
    assert stage.steps == 6 and stage.windows_seen == 24
    assert len(stage.subjects) == 3  # five people, of whom one is validation and one test
    config = json.loads((whole_run / "config.json").read_text())
    assert len(config["spectral_mean"]) == len(config["spectral_scale"]) == 13


@pytest.mark.slow
def test_what_the_log_tells(whole_run):
    history = state(whole_run)["log_history"]
    trained = [entry for entry in history if "loss" in entry]
    for entry in trained:
        parts = entry["reconstruction_loss"] + entry["spectral_loss"] + 0.8 * entry["aux_loss"]
        assert entry["loss"] == pytest.approx(parts, abs=2e-3)
    rates = [entry["learning_rate"] for entry in trained]
    assert rates.index(max(rates)) in (0, 1) and rates[-1] < 0.1 * max(rates)  # one cycle
    assert {"eval_loss", "eval_reconstruction_loss", "eval_spectral_loss"} <= set().union(*history)
    assert list(whole_run.rglob("events.out.tfevents.*"))  # TensorBoard's, where nobody asks for another tracker


@pytest.mark.slow
def test_the_learning_curve_of_parts_is_one(whole_run, tmp_path):
    curve = read_curve([whole_run, whole_run])
    assert list(curve.index) == [*range(1, 7), *range(7, 13)]
    once = read_curve([whole_run])
    assert curve["reconstruction"].tolist() == once["reconstruction"].tolist() * 2
    assert once["spectrum, held out"].notna().tolist() == [False, False, True, False, False, True]
    with pytest.raises(ValueError, match="no checkpoint-"):
        read_curve([tmp_path])


@pytest.mark.slow
def test_killed_and_resumed_is_as_if_nothing_had_happened(prepared, whole_run, tmp_path):
    folder = tmp_path / "run"
    program = command(prepared, folder)
    process = subprocess.Popen(
        [sys.executable, *program], env=os.environ | ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not (folder / "checkpoint-2" / "trainer_state.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "model.safetensors").exists()
    # as a kill in the middle of saving leaves it
    (folder / "checkpoint-99").mkdir()
    run_python(*program, "--resume_from_checkpoint", "true")
    weights, expected = (load_file(path / "model.safetensors") for path in (folder, whole_run))
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert losses(folder) == losses(whole_run)
    # what is finished stays as it is
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert "is finished" in run_python(*program, "--resume_from_checkpoint", "true")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_two_processes_see_what_one_sees(prepared, tmp_path):
    runs = []
    for name, batch, launcher in (("one", "8", ()), ("two", "4", TWO_PROCESSES)):
        folder = tmp_path / name
        program = command(
            *(prepared, folder, "--per_device_train_batch_size", batch, "--optim", "sgd"),
            *("--save_steps", "50", "--eval_steps", "50", "--monitor_steps", "50"),
            steps=50,
            # with experts, rounding sends tokens to others and the runs drift apart; test_ecosystem.py has experts
            num_experts=[0] * 6,
            **EXACT,
        )
        run_python(*launcher, *program, "--learning_rate", "1e-3", **watch_threads(tmp_path))
        runs.append(losses(folder))
    assert len(runs[0]) == 50 and max(runs[0]) - min(runs[0]) > 0.5
    assert runs[1] == pytest.approx(runs[0], rel=2e-6)
    ends = threads_at_the_end(tmp_path)
    assert set(ends) == {0, 1} and not any("gloo" in names for names in ends.values())


@pytest.mark.slow
def test_again_from_weights_alone(prepared, whole_run, tmp_path):
    folder = tmp_path / "more"
    run_python(*command(prepared, folder, "--weights", whole_run, steps=2))
    fresh, old = (json.loads((path / "config.json").read_text()) for path in (folder, whole_run))
    assert fresh["spectral_mean"] == old["spectral_mean"]
    assert [stage.steps for stage in read_training_record(folder).stages] == [6, 2]


@pytest.mark.slow
def test_a_stream_in_two_processes(prepared, tmp_path):
    """Windows then stay as they were prepared: to change them is refused before anything is read."""
    folder = tmp_path / "stream"
    refused = start_python(*command(prepared, folder, "--streaming", "true"))
    assert refused.returncode and "max_channels, montages, amplitude_jitter would change them" in refused.stderr
    run_python(*TWO_PROCESSES, *command(prepared, folder, "--streaming", "true", changes={}))
    (stage,) = read_training_record(folder).stages
    assert stage.steps == 6 and stage.windows_seen == 48
    assert len(losses(folder)) == 6 and verify(folder)["passed"]


def test_a_setting_that_does_not_exist_is_refused(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("time_shift: true\nlearning_rat: 1e-3\n")
    with pytest.raises(ValueError, match="settings that do not exist: learning_rat"):
        parse_with_file(HfArgumentParser(DataArguments), [str(file)])
