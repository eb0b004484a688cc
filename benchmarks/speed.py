"""
Speed and memory of tiny, small and base beside a plain form of the model, in one process, as medians of paired runs.

    python benchmarks/speed.py                                       # a CPU in float32: benchmarks/results/speed.csv
    python benchmarks/speed.py --device cuda --dtype bfloat16        # a GPU: benchmarks/results/speed_cuda.csv

The classifier's forward pass ("embedding"), its training step ("fine-tuning") and the step of the pre-training model,
4-second windows of 20 channels, dropout as the configuration has it (0.1) and, for the steps, once more without. Work
is counted on the plain form, so "peak share" is useful work over what the machine's best matrix product does in the
same time. Peak memory comes from a process of its own that trains with AdamW.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys

import torch
from measure import RESULTS, matmul_peak, paired_times, peak_memory_gib, provenance, ratios, write_rows
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
# Batches and checkpointing of the memory runs.
MEMORY = {"tiny": [(16, False), (16, True)], "small": [(8, True)], "base": [(8, True)]}


COLUMNS = (
    "size kind dropout batch pairs seconds_per_window plain_seconds_per_window ratio ratio_lowest ratio_highest "
    "windows_per_second eeg_seconds_per_second gflop_per_window peak_gflop_per_second peak_share peak_memory_gib"
).split()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--pairs", type=int, default=7, help="timed pairs, after one to warm up")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16 is autocast")
    parser.add_argument("--memory_of", nargs=3, metavar=("SIZE", "BATCH", "CHECKPOINTING"), help=argparse.SUPPRESS)
    return parser.parse_args()


def memory_of(size: str, batch: int, checkpointing: bool, device: torch.device, dtype: torch.dtype) -> float:
    """Two steps of pre-training with AdamW; the process's peak in GiB."""
    model, _ = models("pre-training", getattr(NeurIPTConfig, size)())
    model.to(device)
    if checkpointing:
        model.activation_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    examples = {name: tensor.to(device) for name, tensor in windows("pre-training", batch).items()}
    step = work("pre-training", model, examples)
    for _ in range(2):
        with autocast(device, dtype):
            step()
        optimizer.step()
    return peak_memory_gib(device)


def memory_row(size: str, count: int, checkpointing: bool, arguments: argparse.Namespace) -> dict[str, object]:
    """The memory run in a process of its own."""
    command = [sys.executable, __file__, "--device", arguments.device, "--dtype", arguments.dtype]
    command += ["--memory_of", size, str(count), str(checkpointing)]
    memory = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    kind = "pre-training with AdamW" + (", activation checkpointing" if checkpointing else "")
    print(size, kind, f"peak memory {memory:.2f} GiB")
    row = {"size": size, "kind": kind, "dropout": 0.1, "batch": count, "peak_memory_gib": f"{memory:.2f}"}
    return dict.fromkeys(COLUMNS, "") | row | provenance(torch.device(arguments.device))


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def main() -> None:
    arguments = parse()
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    if arguments.memory_of:
        size, batch, checkpointing = arguments.memory_of
        print(memory_of(size, int(batch), checkpointing == "True", device, dtype))
        return
    peak, rows = matmul_peak(device, dtype), []
    for size in arguments.sizes:
        if "pre-training" in arguments.kinds:  # first, while this process is small
            rows += [memory_row(size, count, checkpointing, arguments) for count, checkpointing in MEMORY[size]]
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
                    "peak_memory_gib": "",
                    **provenance(device),
                }
                print(*(f"{name} {row[name]}" for name in ("size", "kind", "dropout", "seconds_per_window", "ratio")))
                rows.append(row)
                del model, plain, runs
        write_rows(RESULTS / ("speed.csv" if device.type == "cpu" else f"speed_{device.type}.csv"), rows)


if __name__ == "__main__":
    main()
