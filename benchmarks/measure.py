"""What the benchmarks share: windows to run on, paired timings, what the machine can do, who measured what."""

import contextlib
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import torch

from neuript_hf.checkpoints import provenance as origin


RESULTS = Path(__file__).parent / "results"


def paired_times(runs: dict[str, Callable[[], object]], pairs: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each run, in turns, after one turn to warm up, so that a noisy moment strikes all of them."""
    times = {name: [] for name in runs}
    for turn in range(pairs + 1):
        for name, run in runs.items():
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            if turn > 0:
                times[name].append(time.perf_counter() - start)
    return times


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """The best of several square products, in operations a second."""
    best = 0.0
    for size in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        times = paired_times({"product": lambda left=left, right=right: left @ right}, 10, device)["product"]
        best = max(best, 2 * size**3 / min(times))
    return best


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Nothing in float32."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def peak_memory_gib(device: torch.device) -> float:
    """Largest memory so far: of the process on a CPU, of the tensors on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / 2 ** (30 if sys.platform == "darwin" else 20)


def alone(function: Callable, *arguments: object) -> object:
    """What `function` returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def write_rows(name: str, rows: list[dict[str, object]], device: torch.device) -> None:
    """Writes `results/NAME.csv`; new rows get columns that say where they come from."""
    about = origin.provenance()
    columns = {
        "command": about["command"],
        "commit": about["commit"],
        "machine": origin.machine_name(device),
        "threads": about["threads"],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    path = RESULTS / f"{name}.csv"
    pd.DataFrame([row | columns | row for row in rows], dtype=object).to_csv(path, index=False)
    print(f"wrote {path}")
