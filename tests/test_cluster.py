"""The scripts of examples/cluster, with SLURM's variables and stand-ins for its commands."""

import os
import runpy
import signal
import subprocess
import sys
import time

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from conftest import ONE_THREAD, ROOT, small_config, write_recording
from pretrain import parse_arguments
from test_derivatives import KILLS, content, make_checkpoint

from neuript_hf import NeurIPTForPreTraining, NeurIPTForSequenceClassification, verify
from neuript_hf.__main__ import main
from neuript_hf.data.shards import EEGShardDataset


CLUSTER = ROOT / "examples" / "cluster"
JOB = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": "node1", "SLURM_NNODES": "1", "SLURM_CPUS_PER_TASK": "2"}
GPUS = {"SLURM_GPUS_ON_NODE": "2"}
# What stands in for a program writes down its arguments, one on a line.
WRITES_DOWN = '#!/bin/bash\nprintf "%s\\n" "$@" > "$0.arguments"\n'
STAND_INS = {
    "srun": '#!/bin/bash\nSLURM_NODEID=0 exec "$@"\n',
    "scontrol": '#!/bin/bash\nif [ "$1" = show ]; then echo localhost; else echo "$@" > "$0.arguments"; fi\n',
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder of stand-ins, first on the path, and a job's variables."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv(
        "PATH", f"{folder}{os.pathsep}{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    )
    for name, value in (JOB | GPUS | ONE_THREAD).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)
    stand_in(folder, **STAND_INS)
    return folder


def stand_in(folder, **programs):
    for name, script in programs.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)


def arguments_of(cluster, program, script, *arguments):
    """Those with which a script starts a program."""
    stand_in(cluster, **{program: WRITES_DOWN})
    subprocess.run(["bash", CLUSTER / script, *map(str, arguments)], check=True)
    return (cluster / f"{program}.arguments").read_text().splitlines()


def task_of_an_array(monkeypatch, number):
    for name, value in {"ID": number, "MIN": 1, "MAX": 2, "STEP": 1, "COUNT": 2}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(3):
        write_recording(folder / f"sub-{number}_raw.fif", number, seconds=8)
    return folder


def test_embedding_by_an_array(cluster, recordings, tmp_path, monkeypatch, capsys):
    model = make_checkpoint(tmp_path / "model", num_hidden_layers=2, merge_sizes=[1, 4], num_experts=[0, 2])
    found = arguments_of(cluster, "neuript", "embed.sbatch", recordings, tmp_path / "out", "--model", model)
    assert found[-2:] == ["--num-proc", "2"]
    found[-1] = "1"
    for task in (2, 1):
        task_of_an_array(monkeypatch, task)
        assert main(found) == 0
        printed = capsys.readouterr().out
        assert f"This job has shard {task - 1} of 2 (SLURM_ARRAY_TASK_ID={task})." in printed
        assert " recordings a second" in printed
    tables = [name for name in content(tmp_path / "out") if name.endswith("parquet")]
    assert sorted(tables) == [f"sub-{number}_embeddings.parquet" for number in range(3)]


def test_preparation_by_an_array(cluster, recordings, tmp_path, monkeypatch, capsys):
    rules = ("--montage", "as_recorded", "--min_recording_seconds", 0, "--trim_seconds", 0)
    options = ("--source", recordings, "--output", tmp_path / "out", "--recordings_per_shard", 1, *rules)
    program, *found = arguments_of(cluster, "python", "prepare.sbatch", *options)
    assert found[-2:] == ["--num_proc", "2"]
    monkeypatch.setattr("sys.argv", [program, *found[:-1], "1"])
    for task, words in ((2, "other jobs still write"), (1, '"kept": 3')):
        task_of_an_array(monkeypatch, task)
        runpy.run_path(program)["main"]()
        assert words in (printed := capsys.readouterr().out) and f"shard {task - 1} of 2" in printed
    assert len(EEGShardDataset(tmp_path / "out")) == 6


def test_training_by_fsdp(cluster, tmp_path, monkeypatch):
    """
    accelerate understands the script and its configuration, whose classes are there in every model. (On CPUs it does
    not shard: tests/test_ecosystem.py compares sharded gradients without it.)
    """
    settings = ("research/settings/tiny.yaml", "--output_dir", tmp_path / "run")
    found = arguments_of(cluster, "accelerate", "pretrain.sbatch", *settings)
    launch, *_ = _validate_launch_command(launch_command_parser().parse_args(found[1:]))
    assert found[0] == "launch" and launch.use_fsdp and launch.fsdp_version == 2
    assert (launch.num_processes, launch.machine_rank, launch.main_process_ip) == (2, 0, "localhost")
    *_, training = parse_arguments(launch.training_script_args)
    assert training.resume_from_checkpoint == "true" and training.output_dir == str(tmp_path / "run")
    for name, value in prepare_multi_gpu_env(launch).items():
        if name.startswith("FSDP_"):
            monkeypatch.setenv(name, value)
    for model in (
        NeurIPTForPreTraining(small_config()),
        NeurIPTForPreTraining(small_config(decoder_type="linear")),
        NeurIPTForSequenceClassification(small_config()),
    ):
        plugin = FullyShardedDataParallelPlugin()
        plugin.set_auto_wrap_policy(model)
        classes = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
        assert {kind.__name__ for kind in classes} == {"NeurIPTEmbeddings", "NeurIPTEncoderLayer"}


def test_a_training_goes_back_into_the_queue(cluster):
    """SLURM sends USR1 to the script before the time is over."""
    stand_in(cluster, accelerate='#!/bin/bash\ntouch "$0.started"\nsleep 20\n')
    job = subprocess.Popen(["bash", CLUSTER / "pretrain.sbatch", "settings.yaml"], start_new_session=True)
    try:
        while not (cluster / "accelerate.started").exists():
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(signal.SIGUSR1)
        job.wait(10)
        assert (cluster / "scontrol.arguments").read_text().split() == ["requeue", "12345"]
    finally:
        os.killpg(job.pid, signal.SIGKILL)


@pytest.mark.skipif(KILLS <= 2, reason="make kill-test: half a minute for each start of two processes")
def test_a_training_that_is_killed_and_queued_again(cluster, tmp_path):
    """Two CPU processes from the script, killed once, give the weights of an undisturbed run."""
    from test_pretrain import command, losses, prepare_simulated

    data = prepare_simulated(tmp_path)

    def start(folder):
        _, settings = command(data, folder)
        return subprocess.Popen(["bash", CLUSTER / "pretrain.sbatch", settings], start_new_session=True)

    assert start(tmp_path / "whole").wait() == 0
    job = start(tmp_path / "killed")
    while not list((tmp_path / "killed").glob("checkpoint-2/trainer_state.json")):
        assert job.poll() is None
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert start(tmp_path / "killed").wait() == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole") and verify(tmp_path / "killed")["passed"]
