"""
Cost of patch models in braindecode, and of our checkpoint, on the same windows: 4 s of 20 channels, noise, float32.

    make bench-patch-models         # an environment with braindecode beside this package

Each model gets the window at the rate that it was made for. Forward pass without gradients, and forward and backward,
all models in turns, so that a noisy moment strikes all of them.
"""

import argparse
import importlib.machinery
import importlib.metadata
import statistics
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measure import paired_times, write_rows

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTModel


CHANNELS = (
    "FP1 F7 T7 P7 FP2 F8 T8 P8 O1 O2 C3 CZ C4 F3 P3 F4 P4 FZ PZ OZ".split()
)  # twenty electrodes of the 10-20 system; LaBraM wants names
SECONDS = 4
MODELS = {"CBraMod": 200, "Labram": 200, "BIOT": 200, "EEGNet": 128}  # rate in hertz
OWN_RATE = 64
WINDOWS_IN_A_MINUTE = 60 / SECONDS


class StandIn(types.ModuleType):
    """
    In the place of torchaudio, which braindecode imports at once. None of the models timed here uses it.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__path__ = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})


def patch_model(name: str, rate: int, batch: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    """The model with random weights, and a call of it."""
    torchaudio = sys.modules["torchaudio"] = StandIn("torchaudio")
    for part in ("functional", "transforms"):
        sys.modules[f"torchaudio.{part}"] = StandIn(f"torchaudio.{part}")
        setattr(torchaudio, part, sys.modules[f"torchaudio.{part}"])
    from braindecode import models

    arguments = {"n_chans": len(CHANNELS), "n_outputs": 2, "n_times": rate * SECONDS, "sfreq": rate}
    model = getattr(models, name)(**arguments)
    signal = torch.randn(batch, len(CHANNELS), rate * SECONDS)
    names = {"ch_names": list(CHANNELS)} if name == "Labram" else {}
    return model, lambda: model(signal, **names)


def checkpoint(folder: str, batch: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    """Our checkpoint, and a call of it that gives the vector to use."""
    model = NeurIPTModel.from_pretrained(folder)
    features = NeurIPTFeatureExtractor.from_pretrained(folder).channel_features(CHANNELS)
    places = {name: torch.as_tensor(values).expand(batch, -1, -1) for name, values in features.items()}
    signal = torch.randn(batch, len(CHANNELS), OWN_RATE * SECONDS)
    return model, lambda: model(signal, **places).features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="hub/neuript-tiny")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    built = {Path(arguments.checkpoint).name: (*checkpoint(arguments.checkpoint, arguments.batch), OWN_RATE)}
    built |= {name: (*patch_model(name, rate, arguments.batch), rate) for name, rate in MODELS.items()}

    def embed(model: torch.nn.Module, call: Callable[[], torch.Tensor]) -> None:
        model.eval()
        with torch.no_grad():
            call()

    def step(model: torch.nn.Module, call: Callable[[], torch.Tensor]) -> None:
        model.train().zero_grad()
        call().square().mean().backward()

    cpu, rows = torch.device("cpu"), []
    for kind, run in (("embedding", embed), ("fine-tuning", step)):
        runs = {name: partial(run, model, call) for name, (model, call, _) in built.items()}
        times = paired_times(runs, arguments.runs, cpu)
        for name, (model, _, rate) in built.items():
            seconds = statistics.median(times[name]) / arguments.batch
            ratio = statistics.median(a / b for a, b in zip(times[name], times["CBraMod"], strict=True))
            rows.append(
                {
                    "model": name,
                    "parameters": sum(parameter.numel() for parameter in model.parameters()),
                    "kind": kind,
                    "rate": rate,
                    "batch": arguments.batch,
                    "runs": arguments.runs,
                    "seconds_per_window": f"{seconds:.5f}",
                    "to_cbramod": f"{ratio:.2f}",
                    "braindecode": importlib.metadata.version("braindecode"),
                }
            )
            a_minute = f"{seconds * WINDOWS_IN_A_MINUTE:.3f} s a minute of EEG"
            print(f"{name}, {kind}: {seconds:.5f} s a window, {a_minute}, {ratio:.2f} times CBraMod")
    write_rows("patch_models", rows, cpu)


if __name__ == "__main__":
    main()
