"""
Speed of tiny, small and base beside a plain form of the model, as medians of paired runs.

    python benchmarks/speed.py                                       # a CPU in float32: benchmarks/results/speed.csv
    python benchmarks/speed.py --device cuda --dtype bfloat16        # a GPU: benchmarks/results/speed_cuda.csv

The classifier's forward pass ("embedding"), its training step ("fine-tuning") and the step of the pre-training model,
4-second windows of 20 channels, dropout as the configuration has it. Work is counted on the plain form, so "peak
share" is useful work over what the machine's best matrix product does in the same time.

Each row comes from a process of its own that holds both forms, since what a process has done before decides how much
memory the system's allocator (glibc) keeps for it, and that decides half of the plain form's time. On a CPU each row
is measured twice: as the allocator comes, and told by two variables to give nothing back. Rows that are not
measured again stay in the csv.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

import torch
from measure import RESULTS, autocast, matmul_peak, paired_times, provenance, ratios, read_rows, write_rows
from torch.utils.flop_counter import FlopCounterMode
from workload import KINDS, models, windows, work

from neuript_hf import NeurIPTConfig


BATCHES = {
    "cpu": {
        "tiny": {"embedding": 8, "fine-tuning": 8, "pre-training": 4},
        "small": {"embedding": 4, "fine-tuning": 4, "pre-training": 2},
        "base": {"embedding": 2, "fine-tuning": 2, "pre-training": 1},
    },
    "cuda": {size: {"embedding": 32, "fine-tuning": 16, "pre-training": 8} for size in ("tiny", "small", "base")},
}
ALLOCATORS = {
    "as it comes": {},
    "keeps memory": {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**35)},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--pairs", type=int, default=7, help="timed pairs, after one to warm up")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16 is autocast")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)  # print the one row, as JSON
    return parser.parse_args()


def measure(size: str, kind: str, arguments: argparse.Namespace) -> dict[str, object]:
    """One row, in this process."""
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    peak, count = matmul_peak(device, dtype), BATCHES[device.type][size][kind]
    model, plain = (part.to(device) for part in models(kind, getattr(NeurIPTConfig, size)()))
    batch = {name: tensor.to(device) for name, tensor in windows(kind, count).items()}
    runs = {"package": work(kind, model, batch), "plain": work(kind, plain, batch)}
    with autocast(device, dtype):
        with FlopCounterMode(display=False) as counter:
            runs["plain"]()
        times = paired_times(runs, arguments.pairs, device)
    seconds = statistics.median(times["package"]) / count
    work_of_window = counter.get_total_flops() / count
    ratio, lowest, highest = ratios(times["package"], times["plain"])
    return {
        "batch": count,
        "pairs": arguments.pairs,
        "seconds_per_window": f"{seconds:.4f}",
        "plain_seconds_per_window": f"{statistics.median(times['plain']) / count:.4f}",
        "ratio": f"{ratio:.2f}",
        "ratio_lowest": f"{lowest:.2f}",
        "ratio_highest": f"{highest:.2f}",
        "windows_per_second": f"{1 / seconds:.2f}",
        "eeg_seconds_per_second": f"{4 / seconds:.1f}",
        "gflop_per_window": f"{work_of_window / 1e9:.1f}",
        "peak_gflop_per_second": f"{peak / 1e9:.0f}",
        "peak_share": f"{work_of_window / seconds / peak:.2f}",
    }


def main() -> None:
    arguments = parse()
    if arguments.row:
        (size,), (kind,) = arguments.sizes, arguments.kinds
        print(json.dumps(measure(size, kind, arguments)))
        return
    allocators = ALLOCATORS if arguments.device == "cpu" else {"torch's": {}}
    same = ["--pairs", str(arguments.pairs), "--device", arguments.device, "--dtype", arguments.dtype, "--row"]
    path = RESULTS / ("speed.csv" if arguments.device == "cpu" else f"speed_{arguments.device}.csv")
    known = read_rows(path) if path.is_file() else []
    rows: list[dict[str, object]] = [
        row for row in known if row["size"] not in arguments.sizes or row["kind"] not in arguments.kinds
    ]
    for size in arguments.sizes:
        for kind in arguments.kinds:
            for allocator, variables in allocators.items():
                output = subprocess.run(
                    [sys.executable, __file__, "--sizes", size, "--kinds", kind, *same],
                    env=os.environ | variables,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stdout
                row = {"size": size, "kind": kind, "allocator": allocator} | json.loads(output)
                print(
                    *(f"{name} {row[name]}" for name in ("size", "kind", "allocator", "seconds_per_window", "ratio"))
                )
                rows.append(row | provenance(torch.device(arguments.device)))
        write_rows(path, rows)


if __name__ == "__main__":
    main()
