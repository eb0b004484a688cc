"""
Peak memory of a pre-training step with AdamW: the whole process on a CPU, the tensors on a GPU.

    python benchmarks/memory.py                                      # benchmarks/results/memory.csv
    python benchmarks/memory.py --device cuda --dtype bfloat16       # benchmarks/results/memory_cuda.csv

4-second windows of 20 channels, dropout 0.1; each row from a process of its own. On a CPU each is measured twice: as
the system's allocator (glibc) comes, which keeps freed blocks of up to 32 MiB and ends up with holes between them, and
with `MALLOC_MMAP_THRESHOLD_`, which makes it give back everything above that size.
"""

import argparse
import os
from unittest import mock

import torch
from measure import alone, autocast, peak_memory_gib, write_rows
from workload import make_model, windows, work

from neuript_hf import NeurIPTConfig


RUNS = [("tiny", 16, False), ("tiny", 16, True), ("small", 8, True), ("base", 8, True)]  # size, batch, checkpointing
THRESHOLD = 8 * 2**20


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16 is autocast")
    return parser.parse_args()


def peak_of(size: str, batch: int, checkpointing: bool, device: torch.device, dtype: torch.dtype) -> float:
    """The peak in GiB of a step that is not the first, in this process."""
    model = make_model("pre-training", getattr(NeurIPTConfig, size)()).to(device)
    if checkpointing:
        model.activation_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    examples = {name: tensor.to(device) for name, tensor in windows("pre-training", batch).items()}
    step = work("pre-training", model, examples)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # its state is part of every step but the first
    with autocast(device, dtype):
        step()
    optimizer.step()
    return peak_memory_gib(device)


def main() -> None:
    arguments = parse()
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    rows = []
    for size, batch, checkpointing in RUNS:
        for threshold in (None, THRESHOLD) if device.type == "cpu" else (None,):
            with mock.patch.dict(os.environ, {"MALLOC_MMAP_THRESHOLD_": str(threshold)} if threshold else {}):
                peak = alone(peak_of, size, batch, checkpointing, device, dtype)
            row = {"size": size, "batch": batch, "checkpointing": checkpointing}
            rows.append(row | {"malloc_mmap_threshold": threshold or "", "peak_memory_gib": f"{peak:.2f}"})
            print(rows[-1])
        write_rows("memory" if device.type == "cpu" else f"memory_{device.type}", rows, device)


if __name__ == "__main__":
    main()
