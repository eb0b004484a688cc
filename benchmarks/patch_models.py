"""
Cost of the patch models in braindecode on the same windows: 4 s of 20 channels, noise, random weights, float32.

    make bench-patch-models         # an environment of its own: braindecode and this package do not fit into one

Each model gets the window at the rate that it was made for. Forward pass without gradients, and forward and backward.
"""

import argparse
import importlib.machinery
import importlib.metadata
import statistics
import sys
import types

import torch
from measure import paired_times, write_rows


CHANNELS = (
    "FP1 F7 T7 P7 FP2 F8 T8 P8 O1 O2 C3 CZ C4 F3 P3 F4 P4 FZ PZ OZ".split()
)  # twenty electrodes of the 10-20 system; LaBraM wants names
SECONDS = 4
MODELS = {"CBraMod": 200, "Labram": 200, "BIOT": 200, "EEGNet": 128}  # rate in hertz


class StandIn(types.ModuleType):
    """
    In the place of torchaudio, which braindecode imports at once and whose released wheels only load beside a CUDA
    build of torch. None of the models timed here uses it.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__path__ = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})


def build(name: str, rate: int) -> torch.nn.Module:
    torchaudio = sys.modules["torchaudio"] = StandIn("torchaudio")
    for part in ("functional", "transforms"):
        sys.modules[f"torchaudio.{part}"] = StandIn(f"torchaudio.{part}")
        setattr(torchaudio, part, sys.modules[f"torchaudio.{part}"])
    from braindecode import models

    arguments = {"n_chans": len(CHANNELS), "n_outputs": 2, "n_times": rate * SECONDS, "sfreq": rate}
    return getattr(models, name)(**arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    cpu, rows = torch.device("cpu"), []
    for name, rate in MODELS.items():
        model = build(name, rate)
        signal = torch.randn(arguments.batch, len(CHANNELS), rate * SECONDS)
        names = {"ch_names": list(CHANNELS)} if name == "Labram" else {}

        def embed(model=model, signal=signal, names=names) -> None:
            with torch.no_grad():
                model.eval()(signal, **names)

        def step(model=model, signal=signal, names=names) -> None:
            model.zero_grad()
            model.train()(signal, **names).square().mean().backward()

        times = paired_times({"embedding": embed, "fine-tuning": step}, arguments.runs, cpu)
        for kind, values in times.items():
            seconds = statistics.median(values) / arguments.batch
            rows.append(
                {
                    "model": name,
                    "parameters": sum(parameter.numel() for parameter in model.parameters()),
                    "kind": kind,
                    "rate": rate,
                    "batch": arguments.batch,
                    "runs": arguments.runs,
                    "seconds_per_window": f"{seconds:.5f}",
                    "braindecode": importlib.metadata.version("braindecode"),
                }
            )
            print(name, kind, f"{seconds:.5f} s a window")
    write_rows("patch_models", rows, cpu)


if __name__ == "__main__":
    main()
