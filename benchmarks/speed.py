"""
Speed of tiny, small and base beside a plain form of the model, in one process, as medians of paired runs.

    python benchmarks/speed.py                                       # a CPU in float32: benchmarks/results/speed.csv
    python benchmarks/speed.py --device cuda --dtype bfloat16        # a GPU: benchmarks/results/speed_cuda.csv

The classifier's forward pass ("embedding"), its training step ("fine-tuning") and the step of the pre-training model,
4-second windows of 20 channels, dropout as the configuration has it (0.1) and, for the steps, once more without. Work
is counted on the plain form, so "peak share" is useful work over what the machine's best matrix product does in the
same time.
"""

import argparse
import statistics

import torch
from measure import RESULTS, autocast, matmul_peak, paired_times, provenance, ratios, write_rows
from torch.utils.flop_counter import FlopCounterMode
from workload import KINDS, models, windows, work

from neuript_hf import NeurIPTConfig


BATCHES = {
    "cpu": {
        "tiny": {"embedding": 8, "fine-tuning": 8, "pre-training": 8},
        "small": {"embedding": 4, "fine-tuning": 4, "pre-training": 2},
        "base": {"embedding": 2, "fine-tuning": 2, "pre-training": 1},
    },
    "cuda": {size: {"embedding": 32, "fine-tuning": 16, "pre-training": 8} for size in ("tiny", "small", "base")},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--pairs", type=int, default=7, help="timed pairs, after one to warm up")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16 is autocast")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    peak, rows = matmul_peak(device, dtype), []
    for size in arguments.sizes:
        for kind in arguments.kinds:
            count = BATCHES[device.type][size][kind]
            for dropout in (0.1,) if kind == "embedding" else (0.1, 0.0):
                config = getattr(NeurIPTConfig, size)(hidden_dropout=dropout, attention_dropout=dropout)
                model, plain = (part.to(device) for part in models(kind, config))
                batch = {name: tensor.to(device) for name, tensor in windows(kind, count).items()}
                runs = {"package": work(kind, model, batch), "plain": work(kind, plain, batch)}
                with autocast(device, dtype):
                    with FlopCounterMode(display=False) as counter:
                        runs["plain"]()
                    times = paired_times(runs, arguments.pairs, device)
                seconds = statistics.median(times["package"]) / count
                ratio, lowest, highest = ratios(times["package"], times["plain"])
                row = {
                    "size": size,
                    "kind": kind,
                    "dropout": dropout,
                    "batch": count,
                    "pairs": arguments.pairs,
                    "seconds_per_window": f"{seconds:.4f}",
                    "plain_seconds_per_window": f"{statistics.median(times['plain']) / count:.4f}",
                    "ratio": f"{ratio:.2f}",
                    "ratio_lowest": f"{lowest:.2f}",
                    "ratio_highest": f"{highest:.2f}",
                    "windows_per_second": f"{1 / seconds:.2f}",
                    "eeg_seconds_per_second": f"{4 / seconds:.1f}",
                    "gflop_per_window": f"{counter.get_total_flops() / count / 1e9:.1f}",
                    "peak_gflop_per_second": f"{peak / 1e9:.0f}",
                    "peak_share": f"{counter.get_total_flops() / count / seconds / peak:.2f}",
                    **provenance(device),
                }
                print(*(f"{name} {row[name]}" for name in ("size", "kind", "dropout", "seconds_per_window", "ratio")))
                rows.append(row)
                del model, plain, runs
        write_rows(RESULTS / ("speed.csv" if device.type == "cpu" else f"speed_{device.type}.csv"), rows)


if __name__ == "__main__":
    main()
