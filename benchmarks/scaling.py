"""
How the cost of the tiny model grows with channels, seconds and batch.

    python benchmarks/scaling.py            # benchmarks/results/scaling.csv; research/figures.py draws it
"""

import argparse
import statistics

import torch
from measure import paired_times, write_rows
from workload import make_model, windows, work

from neuript_hf import NeurIPTConfig


CURVES = {"channels": (8, 16, 32, 64, 128), "seconds": (1, 2, 4, 8, 15, 30, 60), "batch": (1, 2, 4, 8, 16)}
DEFAULTS = {"channels": 20, "seconds": 4, "batch": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny", choices=["tiny", "small", "base"])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    cpu, rows = torch.device("cpu"), []
    for axis, values in CURVES.items():
        for kind in ("embedding", "fine-tuning"):
            for value in values:
                sizes = DEFAULTS | {axis: value}
                model = make_model(kind, getattr(NeurIPTConfig, arguments.size)())
                batch = windows(kind, sizes["batch"], sizes["channels"], sizes["seconds"])
                times = paired_times({"model": work(kind, model, batch)}, arguments.runs, cpu)["model"]
                seconds = statistics.median(times) / sizes["batch"]
                channel_seconds = sizes["channels"] * sizes["seconds"]
                rows.append(
                    {
                        "size": arguments.size,
                        "axis": axis,
                        "kind": kind,
                        **sizes,
                        "runs": arguments.runs,
                        "seconds_per_window": f"{seconds:.4f}",
                        "milliseconds_per_channel_second": f"{1000 * seconds / channel_seconds:.3f}",
                    }
                )
                print(axis, kind, value, f"{seconds:.4f} s")
    write_rows("scaling", rows, cpu)


if __name__ == "__main__":
    main()
