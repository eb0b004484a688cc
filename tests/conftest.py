"""What several tests share: no network, the folder of real data, a tiny model, a batch of windows, recordings."""

import os
import socket
import subprocess
import sys
from pathlib import Path


# before any Hugging Face library is imported; programs that tests start inherit it
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import mne
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import set_seed

from neuript_hf import NeurIPTConfig


mne.set_log_level("ERROR")
LOCAL_HOSTS = {None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()}
ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
# Programs of this size are fastest on one thread.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def pytest_collection_modifyitems(items):
    """
    Tests marked `shared_data` need real recordings, which are not part of the repository. Files with slow tests come
    first: at the end one of them would leave a process without work.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    reason = f"needs the project's data, expected beside the repository at ../{SHARED_DATA.parent.name}/data"
    for item in items:
        if item.get_closest_marker("shared_data") and not SHARED_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return SHARED_DATA


@pytest.fixture(autouse=True)
def seeded():
    set_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that looks up the address of another machine fails."""
    look_up = socket.getaddrinfo

    def look_up_locally(host, *args, **kwargs):
        if host not in LOCAL_HOSTS:
            pytest.fail(f"The test tried to reach {host}.")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_locally)


# Fields of a model with connectivity and a compact embedding.
COMPACT = {"connectivity_bands": [[4, 8], [8, 13]], "compact_embedding": True}


def small_config(**kwargs) -> NeurIPTConfig:
    """Every part of the model at a size that runs in milliseconds, experts in every second layer."""
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_experts": [0, 2, 0, 3, 0, 4],
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 16,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "router_noise": 0.0,
        "num_labels": 3,
    }
    return NeurIPTConfig(**(sizes | kwargs))


def make_batch(windows: int = 3, channels: int = 5, samples: int = 40, seed: int = 0) -> dict[str, Tensor]:
    """Windows of noise at random places, every channel in one or two of five lobes."""
    generator = torch.Generator().manual_seed(seed)
    lobes = torch.rand(windows, channels, 5, generator=generator) < 0.3
    lobes[torch.arange(windows)[:, None], torch.arange(channels), torch.arange(channels) % 5] = True
    return {
        "input_values": torch.randn(windows, channels, samples, generator=generator),
        "electrode_positions": torch.randint(0, 50, (windows, channels, 3), generator=generator).float(),
        "lobe_mask": lobes,
    }


def make_raw(signal, names, rate=128.0, types="eeg") -> mne.io.RawArray:
    """A continuous recording, of volts `[C, T]`."""
    return mne.io.RawArray(signal, mne.create_info(list(names), rate, types))


def make_epochs(signal, names, rate=128.0) -> mne.EpochsArray:
    """Pieces, of volts `[n, C, T]`."""
    return mne.EpochsArray(signal, mne.create_info(list(names), rate, "eeg"))


def write_recording(
    path: Path, seed, seconds=60.0, names=("C3", "Cz", "C4", "Pz"), change=None, annotations=()
) -> Path:
    """
    Noise (10 microvolts) at 128 Hz, with annotations (onset, duration, description); `change` may spoil the signal, in
    volts.
    """
    signal = np.random.default_rng(seed).normal(0, 1e-5, (len(names), int(seconds * 128)))
    if change is not None:
        change(signal)
    raw = make_raw(signal, names)
    if annotations:
        raw.set_annotations(mne.Annotations(*zip(*annotations, strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, overwrite=True)
    return path


def write_edf(path: Path, signals, physical_range=None, **kwargs) -> Path:
    """EDF or BDF, by the ending, of (label, rate, unit, numbers); the range is by default that of the numbers."""
    from edfio import Bdf, BdfSignal, Edf, EdfSignal

    file, signal = (Bdf, BdfSignal) if path.suffix == ".bdf" else (Edf, EdfSignal)
    file(
        [
            signal(np.asarray(numbers), rate, label=label, physical_dimension=unit, physical_range=physical_range)
            for label, rate, unit, numbers in signals
        ],
        **kwargs,
    ).write(path)
    return path


def ten_five_template() -> dict:
    """Positions in MNE's 10-05 system under its new or its old name."""
    known = mne.channels.get_builtin_montages()
    name = "colin27_1005" if "colin27_1005" in known else "standard_1005"
    return mne.channels.make_standard_montage(name).get_positions()


def make_window(channels: int = 3, samples: int = 64, seed: int = 0, **entries) -> dict[str, np.ndarray]:
    """One window, as a data set gives it to a collator."""
    rng = np.random.default_rng(seed)
    return {
        "input_values": rng.normal(size=(channels, samples)).astype(np.float32),
        "electrode_positions": rng.integers(0, 50, (channels, 3)).astype(np.float32),
        "lobe_mask": np.eye(5, dtype=bool)[np.arange(channels) % 5],
        **entries,
    }


def pad(batch: dict[str, Tensor], channels: int, samples: int, garbage: float) -> dict[str, Tensor]:
    """The batch with more channels and samples at the ends, filled with garbage that must not matter."""
    windows, real_channels, real_samples = batch["input_values"].shape
    return {
        "input_values": nn.functional.pad(batch["input_values"], (0, samples, 0, channels), value=garbage),
        "electrode_positions": nn.functional.pad(batch["electrode_positions"], (0, 0, 0, channels), value=7.0),
        "lobe_mask": nn.functional.pad(batch["lobe_mask"], (0, 0, 0, channels), value=True),
        "channel_mask": (torch.arange(real_channels + channels) < real_channels).expand(windows, -1),
        "attention_mask": (torch.arange(real_samples + samples) < real_samples).expand(windows, -1),
    }


def masked_batch(hidden: bool = False) -> dict[str, Tensor]:
    """A window padded in time, one with bad channels, one whole; hidden samples if asked for."""
    batch = make_batch()
    batch["attention_mask"] = torch.arange(40) < torch.tensor([[31], [40], [40]])
    batch["channel_mask"] = torch.arange(5) < torch.tensor([[5], [3], [5]])
    if hidden:
        batch["hidden_positions"] = torch.rand(3, 5, 40, generator=torch.Generator().manual_seed(1)) < 0.4
    return batch


def exact(model: nn.Module) -> nn.Module:
    """
    The model in float64, with the experts implementation that can do it. Layers with random weights amplify rounding
    up to 4,000 times; in float64 that stays under 1e-10, and a real breach would be as large as ever.
    """
    model.set_experts_implementation("eager")
    return model.double()


def in_double(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in batch.items()}


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def start_python(*arguments, **environment) -> subprocess.CompletedProcess:
    """Another Python process in the repository's folder, to its end."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | ONE_THREAD | environment
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def run_python(*arguments, **environment) -> str:
    """What another Python process prints, if it succeeds."""
    done = start_python(*arguments, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def watch_threads(folder: Path) -> dict[str, str]:
    """Environment in which every Python process of several leaves the names of its threads in `folder` at its end."""
    (folder / "sitecustomize.py").write_text(
        """
import atexit, os, pathlib

@atexit.register  # first of all, so that it runs last
def write_threads():
    if "RANK" in os.environ:
        names = [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
        pathlib.Path(__file__).with_name("threads_" + os.environ["RANK"]).write_text(" ".join(names))
"""
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def threads_at_the_end(folder: Path) -> dict[int, str]:
    """By process what [`watch_threads`] wrote; nothing but the main thread has a name where it is not Linux."""
    return {int(path.name.removeprefix("threads_")): path.read_text() for path in folder.glob("threads_*")}
