"""What the benchmarks share: windows to run on, paired timings, what the machine can do, who measured what."""

import contextlib
import csv
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


def ratios(times: list[float], reference: list[float]) -> tuple[float, float, float]:
    """Median, lowest and highest of `reference / time` over the pairs."""
    values = [other / own for own, other in zip(times, reference, strict=True)]
    return statistics.median(values), min(values), max(values)


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


def provenance(device: torch.device) -> dict[str, object]:
    """Columns that say where a row comes from: command, commit, machine, threads, versions."""
    about = origin.provenance()
    return {
        "command": about["command"],
        "commit": about["commit"],
        "machine": origin.machine_name(device),
        "threads": about["threads"],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path}")
