"""
What frozen features reveal about people the model has not seen, beside random weights and methods without a network.

    python research/evaluate_features.py --model hub/neuript-tiny --data manifest.csv --output results/tiny.json
    python research/evaluate_features.py --model runs/trial --data manifest.csv --folds 5 --output runs/trial.json

The first command fits on the people of `train` and scores those of `val` and `test` together. Nothing is fitted or
chosen on them, and checkpoints that were trained on one of them are refused. The second command never opens their
recordings: it leaves out people of `train` in turn. Settings of trainings are chosen by it.

All methods get the same windows and the same fit; where recordings have different channels, those that all have. The
methods without a network are the log power of nine bands of every channel, and 120 numbers: log power of six bands by
lobe, and the correlations between channels in these bands, mean within and between lobes. Of a checkpoint with a
compact embedding also "its numbers": the same numbers as the embedding's, from the samples and without the network.

Every method is scored twice: as it comes, and centred (", centred"), that is, with each person's own mean over the
windows taken off the features first. No label is used for that, but windows of all classes of the person are needed,
so tasks in which a person has one class are not scored centred, and the means of centred scores are over the others.

Tasks whose classes are within recordings, and tasks whose classes go with the file or the person, have means of their
own. Tasks that no method tells, by folds over people of `train` (told_tasks.py), are reported and leave the means.

Differences are paired: each draw of the bootstrap compares the methods on the same people. The result file holds the
scores of every window and is rewritten after each task.
"""

import copy
import hashlib
import re
import time
from collections import Counter, defaultdict
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
from tasks import KINDS, TASKS, WITHIN_PERSON, manifest_task, untold_tasks
from transformers import AutoModel, HfArgumentParser, set_seed

from neuript_hf import NeurIPTModel
from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.checkpoints.tested_people import TestedPeople
from neuript_hf.checkpoints.training_record import refuse_seen, weights_of
from neuript_hf.data.atomic import atomic_write, write_json
from neuript_hf.data.tasks import TaskArguments, load_splits, load_task, make_extractor
from neuript_hf.evaluation.baselines import (
    band_power,
    connectivity_by_lobe,
    observed_numbers,
    on_common_channels,
    signals_in_microvolt,
)
from neuript_hf.evaluation.linear_probe import FITS, centred, class_scores, people_folds, pooled_features
from neuript_hf.evaluation.metrics import AccuracyOverPeople, classification_scores, signed
from neuript_hf.training.cpu import keep_memory


# With fewer people an interval means little.
FEW_PEOPLE = 6
# What the checkpoint is compared with, in the order of the tables.
OTHERS = ("random", "band power", "connectivity", "its numbers")
CENTRED = ", centred"
# Output of the model, and fields of its configuration to set differently.
FEATURES = {
    "embedding": ("embedding", {}),
    "pooled": ("pooler_output", {}),
    "mean": ("pooler_output", {"pooling": "mean", "compact_embedding": False}),
}
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
    filter_phase: str | None = field(
        default=None, metadata={"help": "zero or minimum; default: the checkpoint's. See docs/streaming.md."}
    )
    features: Literal["embedding", "pooled", "mean"] = field(
        default="embedding",
        metadata={
            "help": "embedding: as pooled where the checkpoint has none; pooled: as the checkpoint pools its scales; "
            "mean: over all channels."
        },
    )
    fit: Literal["logistic", "ridge", "svm"] = field(
        default="ridge", metadata={"help": "Classifier of the standardised features, of all methods."}
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
    batch_size: int = field(default=16, metadata={"help": "Windows that go through the model together."})
    cache_dir: str = field(
        default="runs/features", metadata={"help": "Folder that caches the features of the models."}
    )
    allow_seen_people: bool = field(
        default=False, metadata={"help": "Also score people the checkpoint was trained on; the result names them."}
    )


class Embedder:
    """
    Features of a frozen model, computed once for the same windows and cached in a folder.

    The key is made of the windows' content and of the features of the first ones, so that other weights or other code
    never get a wrong entry.
    """

    def __init__(self, model: NeurIPTModel, batch_size: int, folder: str | Path, output: str = "embedding"):
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.options = {"batch_size": batch_size, "output": output}
        self.folder = Path(folder)

    def __call__(self, windows: Dataset) -> np.ndarray:
        first = pooled_features(self.model, windows.select(range(min(4, len(windows)))), **self.options)
        file = self.folder / hashlib.blake2b(content(windows) + first.tobytes(), digest_size=16).hexdigest()
        file = file.with_suffix(".npy")
        if file.is_file():
            return np.load(file)
        features = pooled_features(self.model, windows, **self.options)
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
    (train, scored), left_out = on_common_channels(train, scored)
    labels = np.asarray(train["labels"])
    people = groups = np.asarray(train["subject"])
    if task.within_subject:  # the penalty is then chosen by folds over runs, or over windows of a single run
        groups = np.asarray(train["recording"])
        groups = groups if len(set(groups)) > 1 else np.arange(len(train))
    penalty = None if arguments.choose_penalty else arguments.penalty
    head = partial(FITS[arguments.fit], seed=arguments.seed, penalty=penalty)

    def score(fitted: np.ndarray, tested: np.ndarray) -> np.ndarray:
        if arguments.folds:
            return held_out_scores(head, fitted, labels, groups, arguments.folds, arguments.seed)
        return class_scores(head(fitted, labels, groups), tested)

    methods = {
        "checkpoint": checkpoint,
        **{f"random {seed}": embed for seed, embed in enumerate(others)},
        "band power": lambda windows: band_power(signals_in_microvolt(windows, extractor), extractor.sampling_rate),
        "connectivity": lambda windows: connectivity_by_lobe(windows, extractor),
    }
    if arguments.features == "embedding" and (config := checkpoint.model.config).compact_embedding:
        methods["its numbers"] = lambda windows: observed_numbers(windows, config)
    # where no person has two classes, centring takes the classes away
    centring = any(len(set(labels[people == person])) > 1 for person in set(people))
    scores = {}
    for method, features in methods.items():
        fitted = features(train)
        tested = fitted if arguments.folds else features(scored)
        scores[method] = score(fitted, tested)
        if centring:
            scores[method + CENTRED] = score(centred(fitted, people), centred(tested, np.asarray(scored["subject"])))

    accuracies = {name: AccuracyOverPeople.of(values, scored) for name, values in scores.items()}
    for way in ("", CENTRED) if centring else ("",):
        if others:
            draws = [accuracies[f"random {seed}{way}"] for seed in range(len(others))]
            accuracies["random" + way] = AccuracyOverPeople.mean(draws)
    differences = {
        name: accuracies["checkpoint" + (CENTRED if name.endswith(CENTRED) else "")] - accuracies[name]
        for name in (other + way for way in ("", CENTRED) for other in OTHERS)
        if name in accuracies
    }
    return {
        "task": asdict(task),
        "channels_left_out": left_out,
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


def counted(tasks: dict[str, dict]) -> dict[str, dict]:
    """The tasks whose means are taken: people who were not fitted to, and classes that some method tells."""
    untold = untold_tasks()
    return {name: task for name, task in tasks.items() if not task["task"]["within_subject"] and name not in untold}


def means_of(tasks: dict[str, dict]) -> dict[str, AccuracyOverPeople]:
    """Means of each method and of the differences (`minus` a method), over the tasks that have it."""
    values = defaultdict(list)
    for task in tasks.values():
        named = task["accuracies"] | {
            f"minus {other}": difference for other, difference in task["differences"].items()
        }
        for name, value in named.items():
            values[name].append(value)
    return {name: AccuracyOverPeople.mean(parts) for name, parts in values.items()}


def as_table(tasks: dict[str, dict]) -> str:
    """
    Markdown, a table of the features as they come and one of the centred: a line for each task, the two kinds of task
    apart, their means, every person of tasks with few people, and whoever was scored without being known as unseen.
    """
    notes = []
    for name, result in tasks.items():
        if result["channels_left_out"]:
            notes.append(f"- {name}: without {', '.join(result['channels_left_out'])}, which not every recording has")
        tested = result["tested_people"]
        if result["people"] != len(tested["unseen"]) and not result["task"]["within_subject"]:
            notes.append(f"- {name}: {tested['description']}")
    parts = [_table(tasks, ""), "\n".join(notes)]
    with_centred = {name: task for name, task in tasks.items() if f"checkpoint{CENTRED}" in task["accuracies"]}
    if with_centred:
        parts += ["Centred, each person's own mean over the windows taken off:", _table(with_centred, CENTRED)]
    return "\n\n".join(filter(None, parts))


def _table(tasks: dict[str, dict], way: str) -> str:
    """The table of one way to take the features: `""` or `CENTRED`."""
    others = [name for name in OTHERS if name + way in next(iter(tasks.values()))["differences"]]
    methods = ["checkpoint", *others]
    header = ["task", "people, windows", "chance", *methods, *(f"minus {other}" for other in others)]
    lines, people = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"], []
    means = counted(tasks)

    def add(name: str, result: dict) -> None:
        accuracies, few = result["accuracies"], result["people"] < FEW_PEOPLE
        cells = [name, f"{result['people']}, {result['windows']['scored']}", f"{1 / len(result['classes']):.3f}"]
        for method in methods:
            seeds = [part.value for other, part in accuracies.items() if re.fullmatch(rf"{method} \d+{way}", other)]
            spread = f" ({min(seeds):.3f} to {max(seeds):.3f})" if seeds else ""
            cells.append(f"{accuracies[method + way].value:.3f}{spread}")
        cells += [_signed(result["differences"][other + way], interval=not few) for other in others]
        lines.append(f"| {' | '.join(cells)} |")
        if few:
            for person in accuracies["checkpoint"].by_person:
                values = (f"{method} {accuracies[method + way].by_person[person]:.3f}" for method in methods)
                people.append(f"- {name}, {person}: {', '.join(values)}")

    def add_mean(title: str, averaged: dict[str, dict]) -> None:
        if averaged:
            values = means_of(averaged)
            cells = [f"{title} of {len(averaged)} tasks", "", ""]
            cells += [f"{values[method + way].value:.3f}" for method in methods]
            cells += [_signed(values[f"minus {other}{way}"]) for other in others]
            lines.append(f"| {' | '.join(cells)} |")

    for kind, names in KINDS.items():
        for name in (name for name in means if name in names):
            add(name, tasks[name])
        add_mean(f"mean, {kind},", {name: task for name, task in means.items() if name in names})
    add_mean("mean", means)
    for name, result in tasks.items():
        if name not in means:
            reason = "within person" if result["task"]["within_subject"] else "no method tells, not in the means"
            add(f"{name} ({reason})", result)
    return "\n".join([*lines, "", *people] if people else lines)


def _signed(difference: AccuracyOverPeople, interval: bool = True) -> str:
    return signed(difference.to_dict()) if interval else f"{difference.value:+.3f}"


def as_json(tasks: dict[str, dict]) -> dict:
    """The results as plain numbers."""

    def plain(parts: dict[str, AccuracyOverPeople]) -> dict:
        return {name: part.to_dict() for name, part in parts.items()}

    return {
        "overall": plain(means_of(counted(tasks))),
        "kinds": {
            kind: plain(means_of({name: task for name, task in counted(tasks).items() if name in names}))
            for kind, names in KINDS.items()
        },
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
            filter_phase=arguments.filter_phase,
            # within-person scores say nothing about new people, so there is nothing to refuse; the result names them
            allow_seen_people=arguments.allow_seen_people or name in WITHIN_PERSON,
        )
        for name in arguments.tasks
    }
    seen = {} if arguments.folds else {name: refuse_seen(task, arguments.model) for name, task in tasks.items()}

    output, fields = FEATURES[arguments.features]
    extractor = make_extractor(next(iter(tasks.values())), arguments.model)
    model = AutoModel.from_pretrained(arguments.model, dtype=torch.float32, num_lobes=extractor.num_lobes, **fields)
    extractor.refuse_other_windows(model.config)
    checkpoint, others = Embedder(model, arguments.batch_size, arguments.cache_dir, output), []
    for seed in range(arguments.random_seeds):
        set_seed(seed)
        weights = NeurIPTModel(copy.deepcopy(model.config))
        others.append(Embedder(weights, arguments.batch_size, arguments.cache_dir, output))

    about = {
        "weights": weights_of(arguments.model),
        "arguments": asdict(arguments),
        "seeds": {"folds": arguments.seed, "random weights": list(range(arguments.random_seeds))},
        "provenance": provenance(),
    }
    results = {}
    for name, task in tasks.items():
        start = time.perf_counter()
        results[name] = evaluate_task(task, arguments, checkpoint, others) | {"seen_people": seen.get(name, [])}
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        write_json(Path(arguments.output), about | {"table": as_table(results)} | as_json(results))
    print(as_table(results))


if __name__ == "__main__":
    keep_memory()
    main()
