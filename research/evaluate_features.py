"""
What frozen features reveal about people the model has not seen: a checkpoint, random weights, and band power.

    python research/evaluate_features.py --model hub/neuript-tiny --data manifest.csv --output results/tiny.json
    python research/evaluate_features.py --model runs/trial --data manifest.csv --folds 5 --output runs/trial.json

The first command fits on the people of `train` and scores those of `val` and `test` together. Nothing is fitted or
chosen on them, and checkpoints that were trained on one of them are refused. The second command never opens their
recordings: it leaves out people of `train` in turn. Settings of trainings are chosen by it.

All methods get the same windows. Differences are paired: each draw of the bootstrap compares the methods on the same
people. The result file holds the scores of every window and is rewritten after each task.
"""

import copy
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow
import torch
from datasets import Dataset
from sklearn.pipeline import Pipeline
from tasks import TASKS, WITHIN_PERSON, manifest_task
from transformers import AutoModel, HfArgumentParser, set_seed

from neuript_hf import NeurIPTModel
from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.checkpoints.tested_people import TestedPeople
from neuript_hf.checkpoints.training_record import refuse_seen, weights_of
from neuript_hf.data.atomic import atomic_write, write_json
from neuript_hf.data.tasks import TaskArguments, load_splits, load_task, make_extractor
from neuript_hf.evaluation.baselines import band_power_baseline, signals_in_microvolt
from neuript_hf.evaluation.linear_probe import FITS, class_scores, people_folds, pooled_features
from neuript_hf.evaluation.metrics import AccuracyOverPeople, classification_scores, signed
from neuript_hf.training.cpu import keep_memory


# With fewer people an interval means little.
FEW_PEOPLE = 6
FEATURES = {"pooled": {}, "mean": {"pooling": "mean"}}
WINDOW_COLUMNS = ("input_values", "electrode_positions", "lobe_mask", "channel_mask", "attention_mask")


@dataclass
class EvaluationArguments:
    """The checkpoint, the tasks, and what is fitted."""

    model: str = field(metadata={"help": "Checkpoint."})
    data: str = field(metadata={"help": "The manifest of the labelled recordings."})
    output: str = field(metadata={"help": "Result file to write (.json)."})
    tasks: list[str] = field(
        default_factory=lambda: list(TASKS),
        metadata={"help": f"Tasks, of {', '.join([*TASKS, *WITHIN_PERSON])}; default: all with unseen people."},
    )
    montage: str = field(
        default="as_recorded",
        metadata={"help": "Name of a montage, as_recorded, or channel names and pairs separated by commas."},
    )
    features: Literal["pooled", "mean"] = field(
        default="pooled", metadata={"help": "pooled: as the checkpoint pools its scales; mean: over all channels."}
    )
    fit: Literal["logistic", "ridge", "svm"] = field(
        default="logistic", metadata={"help": "Classifier of the standardised features."}
    )
    # On people of `train` left out in turn, 1 to 3 were best for early weights, and better than choosing by folds.
    penalty: float = field(default=1.0, metadata={"help": "Its penalty, see evaluation.linear_probe.fit_logistic."})
    choose_penalty: bool = field(
        default=False, metadata={"help": "Choose the penalty by folds over the training people; slower."}
    )
    folds: int | None = field(
        default=None, metadata={"help": "Leave out people of train in this many folds; val and test stay unopened."}
    )
    random_seeds: int = field(default=5, metadata={"help": "Number of models with random weights to compare with."})
    seed: int = field(default=0, metadata={"help": "Seed of the folds."})
    batch_size: int = field(default=8, metadata={"help": "Windows that go through the model together."})
    cache_dir: str = field(
        default="runs/features", metadata={"help": "Folder that caches the features of random weights."}
    )
    allow_seen_people: bool = field(
        default=False, metadata={"help": "Also score people the checkpoint was trained on; the result names them."}
    )


class Embedder:
    """
    Features of a frozen model, computed once for the same windows and cached in memory or in a folder.

    The key is made of the windows' content and of the features of the first ones, so that other weights or other code
    never get a wrong entry.
    """

    def __init__(self, model: NeurIPTModel, batch_size: int, folder: str | None = None):
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.batch_size = batch_size
        self.folder = Path(folder) if folder else None
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, windows: Dataset) -> np.ndarray:
        first = pooled_features(self.model, windows.select(range(min(4, len(windows)))), self.batch_size)
        key = hashlib.blake2b(content(windows) + first.tobytes(), digest_size=16).hexdigest()
        if key in self.known:
            return self.known[key]
        file = self.folder / f"{key}.npy" if self.folder else None
        if file is not None and file.is_file():
            return np.load(file)
        features = pooled_features(self.model, windows, self.batch_size)
        if file is None:
            self.known[key] = features
        else:
            # several runs of a study may make the same features at the same time
            with atomic_write(file) as partial_file:
                np.save(partial_file, features)
        return features


def content(windows: Dataset) -> bytes:
    """A digest of all that the model sees of the windows."""
    table = windows.select_columns(list(WINDOW_COLUMNS)).with_format("arrow")[:]
    digest = hashlib.blake2b(digest_size=16)
    for name in WINDOW_COLUMNS:
        values = table[name].combine_chunks()
        while pyarrow.types.is_list(values.type):
            digest.update(np.asarray(values.value_lengths()).tobytes())
            values = values.flatten()
        digest.update(values.to_numpy(zero_copy_only=False).tobytes())
    return digest.digest()


def held_out_scores(
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], Pipeline],
    windows: np.ndarray,
    labels: np.ndarray,
    people: np.ndarray,
    folds: int,
    seed: int,
) -> np.ndarray:
    """
    Scores of the classes `[windows, classes]`; each window is scored by a fit to people of other folds.

    Raises:
        ValueError: where the windows outside of a fold do not have every class.
    """
    scores = np.zeros((len(labels), len(set(labels))))
    for others, left_out in people_folds(labels, people, folds, seed):
        if set(labels[others]) != set(labels):
            raise ValueError(
                f"With {folds} folds over people, the windows outside of one fold do not have every class: use more "
                "folds."
            )
        head = fit(windows[others], labels[others], people[others])
        scores[left_out] = class_scores(head, windows[left_out])
    return scores


def evaluate_task(
    task: TaskArguments, arguments: EvaluationArguments, checkpoint: Embedder, others: list[Embedder]
) -> dict:
    """All methods on one task: accuracies, differences, and the scores of every window."""
    extractor = make_extractor(task, arguments.model)
    if arguments.folds:
        task = replace(task, rows=[*task.rows, f"{task.split_column}=train"])
        train = scored = load_splits(task, extractor)["train"]
    else:
        train, scored, _ = load_task(task, extractor, arguments.seed)
    labels = np.asarray(train["labels"])
    people = np.asarray(train["subject"])
    if task.within_subject:  # the penalty is then chosen by folds over runs, or over windows of a single run
        people = np.asarray(train["recording"])
        people = people if len(set(people)) > 1 else np.arange(len(train))

    def score(fit: Callable, fitted: np.ndarray, tested: Callable[[], np.ndarray]) -> np.ndarray:
        if arguments.folds:
            return held_out_scores(fit, fitted, labels, people, arguments.folds, arguments.seed)
        return class_scores(fit(fitted, labels, people), tested())

    penalty = None if arguments.choose_penalty else arguments.penalty
    head = partial(FITS[arguments.fit], seed=arguments.seed, penalty=penalty)
    scores = {"checkpoint": score(head, checkpoint(train), lambda: checkpoint(scored))}
    for seed, embed in enumerate(others):
        scores[f"random {seed}"] = score(head, embed(train), lambda embed=embed: embed(scored))
    scores["band power"] = score(
        lambda signals, labels, _: band_power_baseline(extractor.sampling_rate).fit(signals, labels),
        signals_in_microvolt(train, extractor),
        lambda: signals_in_microvolt(scored, extractor),
    )

    accuracies = {name: AccuracyOverPeople.of(values, scored) for name, values in scores.items()}
    if others:
        accuracies["random"] = AccuracyOverPeople.mean([accuracies[f"random {seed}"] for seed in range(len(others))])
    differences = {
        name: accuracies["checkpoint"] - accuracies[name] for name in ("random", "band power") if name in accuracies
    }
    return {
        "task": asdict(task),
        "classes": train.features["labels"].names,
        "people": len(set(scored["subject"])),
        "windows": {"train": len(train), "scored": len(scored)},
        "accuracies": accuracies,
        "differences": differences,
        "other_scores": {
            name: classification_scores(values, scored["labels"], scored["recording"])
            for name, values in scores.items()
        },
        "tested_people": TestedPeople.of(task, arguments.model, scored, None if arguments.folds else train).to_dict(),
        "predictions": predictions_by_person(scores, scored),
    }


def predictions_by_person(scores: dict[str, np.ndarray], windows: Dataset) -> dict[str, dict]:
    """
    For each person: `recordings` with their numbers of windows, `onsets` (seconds) and `labels` of the windows, and
    `scores` by method, one list for each class.
    """
    subjects, recordings = np.asarray(windows["subject"]), np.asarray(windows["recording"])
    onsets, labels = np.asarray(windows["onset"]), np.asarray(windows["labels"])
    predictions = {}
    for person in np.unique(subjects).tolist():
        rows = subjects == person
        predictions[person] = {
            "recordings": Counter(recordings[rows].tolist()),
            "onsets": onsets[rows].tolist(),
            "labels": labels[rows].tolist(),
            "scores": {method: _short(values[rows].T) for method, values in scores.items()},
        }
    return predictions


def _short(values: np.ndarray) -> list[list[float]]:
    """Four significant digits."""
    return [[float(f"{value:.4g}") for value in row] for row in values]


def methods_of(tasks: dict[str, dict]) -> list[str]:
    """The checkpoint and the methods it is compared with."""
    return ["checkpoint", *next(iter(tasks.values()))["differences"]]


def unseen_tasks(tasks: dict[str, dict]) -> list[dict]:
    """The results on people who were not fitted to."""
    return [result for result in tasks.values() if not result["task"]["within_subject"]]


def overall(tasks: dict[str, dict]) -> dict[str, AccuracyOverPeople]:
    """Means of each method and of the differences, over the tasks with unseen people."""
    compared = unseen_tasks(tasks)
    if not compared:
        return {}
    means = {
        name: AccuracyOverPeople.mean([result["accuracies"][name] for result in compared])
        for name in methods_of(tasks)
    }
    return means | {
        f"minus {name}": AccuracyOverPeople.mean([result["differences"][name] for result in compared])
        for name in compared[0]["differences"]
    }


def as_table(tasks: dict[str, dict]) -> str:
    """
    Markdown: a line for each task, their mean, every person of tasks with few people, and whoever was scored without
    being known as unseen.
    """
    methods, means = methods_of(tasks), overall(tasks)
    header = ["task", "people, windows", "chance", *methods, *(f"minus {name}" for name in methods[1:])]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    people = []
    for name, result in tasks.items():
        accuracies, few = result["accuracies"], result["people"] < FEW_PEOPLE
        cells = [f"{name} (within person)" if result["task"]["within_subject"] else name]
        cells += [f"{result['people']}, {result['windows']['scored']}", f"{1 / len(result['classes']):.3f}"]
        for method in methods:
            seeds = [part.value for other, part in accuracies.items() if other.startswith(f"{method} ")]
            spread = f" ({min(seeds):.3f} to {max(seeds):.3f})" if seeds else ""
            cells.append(f"{accuracies[method].value:.3f}{spread}")
        cells += [_signed(result["differences"][method], interval=not few) for method in methods[1:]]
        lines.append(f"| {' | '.join(cells)} |")
        if few:
            for person in accuracies["checkpoint"].by_person:
                values = (f"{method} {accuracies[method].by_person[person]:.3f}" for method in methods)
                people.append(f"- {name}, {person}: {', '.join(values)}")
    if means:
        cells = [f"mean of {len(unseen_tasks(tasks))} tasks", "", ""]
        cells += [f"{means[method].value:.3f}" for method in methods]
        cells += [_signed(means[f"minus {method}"]) for method in methods[1:]]
        lines.append(f"| {' | '.join(cells)} |")
    for name, result in tasks.items():
        tested = result["tested_people"]
        if result["people"] != len(tested["unseen"]) and not result["task"]["within_subject"]:
            people.append(f"- {name}: {tested['description']}")
    return "\n".join([*lines, "", *people] if people else lines)


def _signed(difference: AccuracyOverPeople, interval: bool = True) -> str:
    return signed(difference.to_dict()) if interval else f"{difference.value:+.3f}"


def as_json(tasks: dict[str, dict]) -> dict:
    """The results as plain numbers."""

    def plain(parts: dict[str, AccuracyOverPeople]) -> dict:
        return {name: part.to_dict() for name, part in parts.items()}

    return {
        "overall": plain(overall(tasks)),
        "tasks": {
            name: result | {"accuracies": plain(result["accuracies"]), "differences": plain(result["differences"])}
            for name, result in tasks.items()
        },
    }


def main():
    (arguments,) = HfArgumentParser(EvaluationArguments).parse_args_into_dataclasses()
    within = [name for name in arguments.tasks if name in WITHIN_PERSON]
    if arguments.folds and within:
        raise ValueError(f"--folds leaves out people, but {', '.join(within)} compare runs of the same person.")
    tasks = {
        name: manifest_task(
            name,
            arguments.data,
            montage=arguments.montage,
            # within-person scores say nothing about new people, so there is nothing to refuse; the result names them
            allow_seen_people=arguments.allow_seen_people or name in WITHIN_PERSON,
        )
        for name in arguments.tasks
    }
    seen = {} if arguments.folds else {name: refuse_seen(task, arguments.model) for name, task in tasks.items()}

    fields = FEATURES[arguments.features]
    extractor = make_extractor(next(iter(tasks.values())), arguments.model)
    model = AutoModel.from_pretrained(arguments.model, dtype=torch.float32, num_lobes=extractor.num_lobes, **fields)
    checkpoint, others = Embedder(model, arguments.batch_size), []
    for seed in range(arguments.random_seeds):
        set_seed(seed)
        others.append(Embedder(NeurIPTModel(copy.deepcopy(model.config)), arguments.batch_size, arguments.cache_dir))

    about = {
        "weights": weights_of(arguments.model),
        "arguments": asdict(arguments),
        "seeds": {"folds": arguments.seed, "random weights": list(range(arguments.random_seeds))},
        "provenance": provenance(),
    }
    results = {}
    for name, task in tasks.items():
        results[name] = evaluate_task(task, arguments, checkpoint, others) | {"seen_people": seen.get(name, [])}
        write_json(Path(arguments.output), about | {"table": as_table(results)} | as_json(results))
    print(as_table(results))


if __name__ == "__main__":
    keep_memory()
    main()
