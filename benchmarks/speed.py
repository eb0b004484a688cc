"""
Speed of tiny, small and base: medians of repeated runs.

    python benchmarks/speed.py                                       # a CPU in float32: benchmarks/results/speed.csv
    python benchmarks/speed.py --device cuda --dtype bfloat16        # a GPU: benchmarks/results/speed_cuda.csv

The classifier's forward pass ("embedding"), its training step ("fine-tuning") and the step of the pre-training model,
4-second windows of 20 channels, dropout as the configuration has it. "Peak share" is the work of these steps over what
the machine's best matrix product does in the same time.

Each row comes from a process of its own. On a CPU there are two: one that keeps its memory, as our programs do, and
one whose allocator (glibc) is as it comes. Rows that are not measured again stay in the csv.
"""

import argparse
import statistics

import pandas as pd
import torch
from measure import RESULTS, alone, autocast, matmul_peak, paired_times, write_rows
from torch.utils.flop_counter import FlopCounterMode
from workload import KINDS, make_model, windows, work

from neuript_hf import NeurIPTConfig
from neuript_hf.training.cpu import keep_memory


BATCHES = {
    "cpu": {
        "tiny": {"embedding": 8, "fine-tuning": 8, "pre-training": 4},
        "small": {"embedding": 4, "fine-tuning": 4, "pre-training": 2},
        "base": {"embedding": 2, "fine-tuning": 2, "pre-training": 1},
    },
    "cuda": {size: {"embedding": 32, "fine-tuning": 16, "pre-training": 8} for size in ("tiny", "small", "base")},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--runs", type=int, default=7, help="timed runs, after one to warm up")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16 is autocast")
    return parser.parse_args()


def measure(size: str, kind: str, keep: bool, arguments: argparse.Namespace) -> dict[str, object]:
    """One row, in this process."""
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    if keep:
        keep_memory()
    peak, count = matmul_peak(device, dtype), BATCHES[device.type][size][kind]
    model = make_model(kind, getattr(NeurIPTConfig, size)()).to(device)
    run = work(kind, model, {name: tensor.to(device) for name, tensor in windows(kind, count).items()})
    with autocast(device, dtype):
        with FlopCounterMode(display=False) as counter:
            run()
        times = [seconds / count for seconds in paired_times({kind: run}, arguments.runs, device)[kind]]
    seconds, work_of_window = statistics.median(times), counter.get_total_flops() / count
    return {
        "size": size,
        "kind": kind,
        "keeps_memory": keep,
        "batch": count,
        "runs": arguments.runs,
        "seconds_per_window": f"{seconds:.4f}",
        "lowest": f"{min(times):.4f}",
        "highest": f"{max(times):.4f}",
        "windows_per_second": f"{1 / seconds:.2f}",
        "eeg_seconds_per_second": f"{4 / seconds:.1f}",
        "gflop_per_window": f"{work_of_window / 1e9:.1f}",
        "peak_gflop_per_second": f"{peak / 1e9:.0f}",
        "peak_share": f"{work_of_window / seconds / peak:.2f}",
    }


def main() -> None:
    arguments = parse()
    name, rows = "speed" if arguments.device == "cpu" else f"speed_{arguments.device}", []
    if (RESULTS / f"{name}.csv").is_file():
        known = pd.read_csv(RESULTS / f"{name}.csv", dtype=str, keep_default_na=False)
        measured_again = known["size"].isin(arguments.sizes) & known["kind"].isin(arguments.kinds)
        rows = known[~measured_again].to_dict("records")
    for size in arguments.sizes:
        for kind in arguments.kinds:
            for keep in (True, False) if arguments.device == "cpu" else (False,):
                rows.append(alone(measure, size, kind, keep, arguments))
                print(size, kind, "keeps memory" * keep, rows[-1]["seconds_per_window"], "s a window")
        write_rows(name, rows, torch.device(arguments.device))


if __name__ == "__main__":
    main()
