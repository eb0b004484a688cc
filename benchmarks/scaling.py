"""
How the cost of the tiny model grows with channels, seconds and batch: a csv and a picture.

    python benchmarks/scaling.py            # benchmarks/results/scaling.csv, docs/scaling.png
"""

import argparse
import statistics
from pathlib import Path

import matplotlib
import torch
from measure import paired_times, write_rows
from workload import make_model, windows, work

from neuript_hf import NeurIPTConfig


matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


CURVES = {"channels": (8, 16, 32, 64, 128), "seconds": (1, 2, 4, 8, 15, 30, 60), "batch": (1, 2, 4, 8, 16)}
DEFAULTS = {"channels": 20, "seconds": 4, "batch": 1}
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "scaling.png"


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
    draw(rows)


def draw(rows: list[dict[str, object]]) -> None:
    """Cost of one second of one channel along each axis; flat is linear growth."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
    for panel, axis in zip(panels, CURVES, strict=True):
        for kind in ("embedding", "fine-tuning"):
            points = [row for row in rows if row["axis"] == axis and row["kind"] == kind]
            costs = [float(row["milliseconds_per_channel_second"]) for row in points]
            panel.plot([row[axis] for row in points], costs, "o-", label=kind)
        panel.set(xscale="log", yscale="log", xlabel={"batch": "windows in a batch"}.get(axis, axis))
        panel.set_xticks(CURVES[axis], [str(value) for value in CURVES[axis]])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("ms per second of one channel")
    panels[0].legend(frameon=False)
    others = ", ".join(f"{value} {axis}" for axis, value in DEFAULTS.items())
    figure.suptitle(f"NeurIPT {rows[0]['size']}, {torch.get_num_threads()} threads; where not varied: {others}")
    figure.savefig(PICTURE, dpi=110)
    print(f"wrote {PICTURE.name}")


if __name__ == "__main__":
    main()
