"""
Speed of tiny, small and base: medians of repeated runs.

    python benchmarks/speed.py                                       # a CPU in float32: benchmarks/results/speed.csv
    python benchmarks/speed.py --device cuda --dtype bfloat16        # a GPU: benchmarks/results/speed_cuda.csv

The classifier's forward pass ("embedding"), its training step ("fine-tuning") and the step of the pre-training model,
4-second windows of 20 channels, dropout as the configuration has it. "Peak share" is the work of these steps over what
the machine's best matrix product does in the same time.

Each row comes from a process of its own, which keeps its memory as our programs do. Rows that are not measured again
stay in the csv.
"""

import argparse
import json
import statistics
import subprocess
import sys

import torch
from measure import RESULTS, autocast, matmul_peak, paired_times, provenance, read_rows, write_rows
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
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)  # print the one row, as JSON
    return parser.parse_args()


def measure(size: str, kind: str, arguments: argparse.Namespace) -> dict[str, object]:
    """One row, in this process."""
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
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
    if arguments.row:
        (size,), (kind,) = arguments.sizes, arguments.kinds
        print(json.dumps(measure(size, kind, arguments)))
        return
    same = ["--runs", str(arguments.runs), "--device", arguments.device, "--dtype", arguments.dtype, "--row"]
    path = RESULTS / ("speed.csv" if arguments.device == "cpu" else f"speed_{arguments.device}.csv")
    known = read_rows(path) if path.is_file() else []
    rows: list[dict[str, object]] = [
        row for row in known if row["size"] not in arguments.sizes or row["kind"] not in arguments.kinds
    ]
    for size in arguments.sizes:
        for kind in arguments.kinds:
            output = subprocess.run(
                [sys.executable, __file__, "--sizes", size, "--kinds", kind, *same],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
            row = {"size": size, "kind": kind} | json.loads(output)
            print(size, kind, row["seconds_per_window"], "s a window")
            rows.append(row | provenance(torch.device(arguments.device)))
        write_rows(path, rows)


if __name__ == "__main__":
    main()
