"""
What each of the faster forms of the arithmetic for CPUs is worth on a whole step.

    python benchmarks/cpu_parts.py     # benchmarks/results/cpu_parts.csv

Every part by itself, and all of them together, beside the plain form of the same model: the same weights and windows
(4 s of 20 channels), in turns, in one process that keeps its memory. A step is forward and backward pass. Ratios are
medians over the pairs, plain over part, of the processor's time of one thread: a busy machine changes it least.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from measure import RESULTS, provenance, ratios, write_rows
from torch import Tensor, nn
from torch.nn import functional as F
from workload import KINDS, windows, work

from neuript_hf import NeurIPTConfig, NeurIPTForPreTraining, NeurIPTForSequenceClassification, embeddings, token_basis
from neuript_hf import modeling_neuript as modeling


KEEPS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**35)}
BATCHES = {
    "tiny": {"embedding": 8, "fine-tuning": 8, "pre-training": 2},
    "small": {"embedding": 4, "fine-tuning": 4, "pre-training": 1},
}


def plain_swiglu(states: Tensor, up_proj: nn.Linear, down_proj: nn.Linear) -> Tensor:
    return down_proj(modeling.gated_activation(up_proj(states), "swiglu"))


def plain_experts(tokens: Tensor, experts: Tensor, weights: Tensor, *parameters: Tensor) -> Tensor:
    up, up_bias, down, down_bias = parameters
    mixed = torch.zeros_like(tokens)
    for expert in range(len(up)):
        rows, slots = torch.where(experts == expert)
        states = modeling.gated_activation(F.linear(tokens[rows], up[expert], up_bias[expert]), "swiglu")
        states = F.linear(states, down[expert], down_bias[expert])
        mixed.index_add_(0, rows, states * weights[rows, slots, None])
    return mixed


def plain_linears(states: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    return tuple(layer(states) for layer in layers)


# Part -> where it is called, and its plain form.
PARTS: dict[str, list[tuple[object, str, Callable]]] = {
    "attention in blocks": [(modeling, "attention_pays", lambda *tensors: False)],
    "dropout by gaps": [(modeling, "add_dropped", lambda residual, update, dropout: residual + dropout(update))],
    "projections in blocks": [(modeling, "linears", plain_linears), (token_basis, "linears", plain_linears)],
    "feed-forward in blocks": [(modeling, "swiglu", plain_swiglu)],
    "experts in blocks": [(modeling, "swiglu_experts", plain_experts)],
    "tokens by their parts": [(embeddings, "is_plain", lambda *layers: False)],
}


@contextlib.contextmanager
def only(*parts: str) -> Iterator[None]:
    """The model with these parts, all others plain."""
    with contextlib.ExitStack() as stack:
        for part, places in PARTS.items():
            for place in places if part not in parts else ():
                stack.enter_context(mock.patch.object(*place))
        yield


def measure(size: str, kind: str, dropout: float, pairs: int) -> list[dict[str, object]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = getattr(NeurIPTConfig, size)(hidden_dropout=dropout, attention_dropout=dropout)
    model = (NeurIPTForPreTraining if kind == "pre-training" else NeurIPTForSequenceClassification)(config)
    step = work(kind, model.train(kind != "embedding"), windows(kind, BATCHES[size][kind]))

    def run(*parts: str) -> None:
        with only(*parts):
            step()

    runs = {"plain": run} | {part: (lambda part=part: run(part)) for part in PARTS} | {"all": lambda: run(*PARTS)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(pairs + 1):  # one to warm up
        for name, timed in runs.items():
            start = time.process_time()
            timed()
            if turn > 0:
                times[name].append(time.process_time() - start)
    rows = []
    for part in (*PARTS, "all"):
        ratio, lowest, highest = ratios(times[part], times["plain"])
        rows.append(
            {
                "size": size,
                "kind": kind,
                "dropout": dropout,
                "part": part,
                "pairs": pairs,
                "ratio": f"{ratio:.2f}",
                "ratio_lowest": f"{lowest:.2f}",
                "ratio_highest": f"{highest:.2f}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="timed pairs, after one to warm up")
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)  # size, kind, dropout: one process
    arguments = parser.parse_args()
    if arguments.row:
        size, kind, dropout = arguments.row
        print(json.dumps(measure(size, kind, float(dropout), arguments.pairs)))
        return
    rows = []
    for size in BATCHES:
        for kind in KINDS:
            for dropout in (0.0, 0.1) if kind != "embedding" else (0.0,):
                output = subprocess.run(
                    [sys.executable, __file__, "--pairs", str(arguments.pairs), "--row", size, kind, str(dropout)],
                    env=os.environ | KEEPS_MEMORY,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stdout
                for row in json.loads(output.splitlines()[-1]):
                    print(*(row[name] for name in ("size", "kind", "dropout", "part", "ratio")), flush=True)
                    rows.append(row | provenance(torch.device("cpu")))
                write_rows(RESULTS / "cpu_parts.csv", rows)


if __name__ == "__main__":
    main()
