"""
Is what connectivity gains an artefact? Checks of the 120 numbers without a network, by folds over people of `train`.

    python research/check_connectivity.py --data manifest.csv

For each task, with the ridge fit of evaluate_features.py:

- all 120 numbers, the 30 of log power and the 90 of correlations, and the correlations below and above 20 Hz, where
  muscles and contact show most;
- labels exchanged at random between recordings, or, where a recording has several classes, between the windows of a
  recording: what is left is what the folds themselves give, and must be chance;
- channels exchanged at random within the lobes of each recording: the numbers by lobe must not change, while the band
  power of each channel loses what lies in single channels;
- channels exchanged over the whole head of each recording: what is left does not depend on places.

The result file holds the balanced accuracies, those of random exchanges as mean, lowest and highest draw.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset
from evaluate_features import held_out_scores
from tasks import TASKS, manifest_task
from transformers import HfArgumentParser

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.data.atomic import write_json
from neuript_hf.data.tasks import load_splits, make_extractor
from neuript_hf.evaluation.baselines import (
    CONNECTIVITY_BANDS,
    band_power,
    connectivity_by_lobe,
    on_common_channels,
    signals_in_microvolt,
)
from neuript_hf.evaluation.linear_probe import fit_ridge
from neuript_hf.evaluation.metrics import balanced_accuracy


# From here on, in hertz, muscles and contact show most.
HIGH = 20


@dataclass
class CheckArguments:
    """The recordings and the number of draws."""

    data: str = field(metadata={"help": "The manifest of the labelled recordings."})
    output: str = field(
        default="research/results/connectivity_checks.json", metadata={"help": "Result file to write (.json)."}
    )
    tasks: list[str] = field(
        default_factory=lambda: list(TASKS), metadata={"help": f"Tasks, of {', '.join(TASKS)}; default: all."}
    )
    folds: int = field(default=5, metadata={"help": "Folds over people of train."})
    draws: int = field(default=5, metadata={"help": "Number of random exchanges of each kind."})


def exchanged_labels(labels: np.ndarray, recordings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels exchanged between recordings, or between the windows of a recording where these have several classes."""
    exchanged = labels.copy()
    rows = [np.flatnonzero(recordings == recording) for recording in np.unique(recordings)]
    if any(len(set(labels[windows])) > 1 for windows in rows):
        for windows in rows:
            exchanged[windows] = rng.permutation(labels[windows])
    else:
        for windows, label in zip(rows, rng.permutation([labels[windows[0]] for windows in rows]), strict=True):
            exchanged[windows] = label
    return exchanged


def exchanged_channels(windows: Dataset, within_lobes: bool, rng: np.random.Generator) -> Dataset:
    """The same signals at other channels, in another order for each recording."""
    orders = {}
    for recording, lobes in zip(windows["recording"], windows["lobe_mask"], strict=True):
        if recording not in orders:
            groups = np.asarray(lobes).argmax(axis=1) if within_lobes else np.zeros(len(lobes), dtype=int)
            order = np.arange(len(lobes))
            for group in np.unique(groups):
                order[groups == group] = rng.permutation(order[groups == group])
            orders[recording] = order.tolist()

    def exchange(window: dict) -> dict:
        columns = ("input_values", "channel_mask")
        return {name: [window[name][channel] for channel in orders[window["recording"]]] for name in columns}

    return windows.map(exchange, keep_in_memory=True)


def check(windows: Dataset, extractor: NeurIPTFeatureExtractor, arguments: CheckArguments) -> dict:
    """All checks of one task."""
    labels, people = np.asarray(windows["labels"]), np.asarray(windows["subject"])
    recordings = np.asarray(windows["recording"])

    def accuracy(features: np.ndarray, labels: np.ndarray = labels) -> float:
        fit = partial(fit_ridge, penalty=1.0)
        return balanced_accuracy(labels, held_out_scores(fit, features, labels, people, arguments.folds, seed=0))

    def connectivity(windows: Dataset) -> np.ndarray:
        return connectivity_by_lobe(windows, extractor)

    def power(windows: Dataset) -> np.ndarray:
        return band_power(signals_in_microvolt(windows, extractor), extractor.sampling_rate)

    def over_draws(draw: Callable[[np.random.Generator], float]) -> dict[str, float]:
        values = [draw(np.random.default_rng(seed)) for seed in range(arguments.draws)]
        return {"mean": float(np.mean(values)), "lowest": min(values), "highest": max(values)}

    lobes, bands = len(windows[0]["lobe_mask"][0]), len(CONNECTIVITY_BANDS)
    numbers = connectivity(windows)
    log_power, correlations = np.split(numbers, [lobes * bands], axis=1)
    is_high = np.tile([low >= HIGH for low, _ in CONNECTIVITY_BANDS], correlations.shape[1] // bands)
    swapped = exchanged_channels(windows, True, np.random.default_rng(0))
    return {
        "all": accuracy(numbers),
        "log power": accuracy(log_power),
        "correlations": accuracy(correlations),
        f"correlations below {HIGH} Hz": accuracy(correlations[:, ~is_high]),
        f"correlations above {HIGH} Hz": accuracy(correlations[:, is_high]),
        "labels exchanged": over_draws(lambda rng: accuracy(numbers, exchanged_labels(labels, recordings, rng))),
        "channels exchanged within lobes": accuracy(connectivity(swapped)),
        "largest change by that": float(np.abs(connectivity(swapped) - numbers).max()),
        "channels exchanged over the head": over_draws(
            lambda rng: accuracy(connectivity(exchanged_channels(windows, False, rng)))
        ),
        "band power": accuracy(power(windows)),
        "band power, channels exchanged within lobes": over_draws(
            lambda rng: accuracy(power(exchanged_channels(windows, True, rng)))
        ),
    }


def as_table(tasks: dict[str, dict]) -> str:
    """Markdown, a line for each task."""

    def cell(value: float | dict) -> str:
        if isinstance(value, dict):
            return f"{value['mean']:.3f} ({value['lowest']:.3f} to {value['highest']:.3f})"
        return f"{value:.3f}"

    header = ["task", *next(iter(tasks.values()))]
    lines = [[name, *map(cell, task.values())] for name, task in tasks.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines))


def main():
    (arguments,) = HfArgumentParser(CheckArguments).parse_args_into_dataclasses()
    about, results = {"arguments": asdict(arguments), "provenance": provenance()}, {}
    for name in arguments.tasks:
        task = manifest_task(name, arguments.data)
        extractor = make_extractor(task, None)
        windows = load_splits(replace(task, rows=[*task.rows, f"{task.split_column}=train"]), extractor)["train"]
        (windows,), _ = on_common_channels(windows)
        results[name] = check(windows, extractor, arguments)
        write_json(Path(arguments.output), about | {"table": as_table(results), "tasks": results})
    print(as_table(results))


if __name__ == "__main__":
    main()
