"""
What pre-training is worth: the same architecture fine-tuned from a checkpoint and from random weights, step by step.

    python research/compare_pretraining.py --model hub/neuript-tiny --data manifest.csv
    python research/compare_pretraining.py research/settings/comparison.yaml --data manifest.csv
    python research/compare_pretraining.py --model runs/trial --data manifest.csv --folds 5 --output runs/trial/folds

Both starts get the same windows, batches, steps and learning rates, with a random head and with one that starts from a
logistic regression on frozen features, with all labels and with a tenth of them; EEGNet and band power get the same
windows. The first two commands score the people of `val` and `test` together while training goes on. Nothing is chosen
on them: the last step counts. The third never opens their recordings: each seed leaves out another fold of the people
of `train`. Learning rates are chosen by it.

Each finished training is saved in `--cells`, so a killed run continues where it stopped. Result files are rewritten
after each seed: `.json` (accuracies, differences paired over people, command, versions), `_curves.csv` (accuracy at
each evaluation) and `_predictions.csv` (the predicted class of every window). figures.py draws them.
"""

import copy
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from tasks import TASKS, manifest_task, untold_tasks
from transformers import EvalPrediction, HfArgumentParser, PrinterCallback, TrainingArguments, set_seed
from transformers.utils import logging

from neuript_hf import NeurIPTConfig, NeurIPTFeatureExtractor, NeurIPTForSequenceClassification
from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.checkpoints.training_record import refuse_seen, weights_of
from neuript_hf.data.atomic import atomic_write, write_json
from neuript_hf.data.tasks import TaskArguments, load_splits, load_task, make_extractor
from neuript_hf.evaluation.baselines import band_power_baseline, on_common_channels, signals_in_microvolt
from neuript_hf.evaluation.eegnet import EEGNetClassifier
from neuript_hf.evaluation.linear_probe import people_folds
from neuript_hf.evaluation.metrics import AccuracyOverPeople, compute_metrics, signed
from neuript_hf.evaluation.target_fits import start_from_fit
from neuript_hf.training.arguments import parse_with_file
from neuript_hf.training.cpu import keep_memory
from neuript_hf.training.finetuning import ModelArguments, draw_windows, make_classifier, make_trainer


# "+ fit": the head starts from a logistic regression on frozen features.
FINE_TUNED = ("pre-trained + fit", "random + fit", "pre-trained", "random")
METHODS = (*FINE_TUNED, "EEGNet", "band power")
DIFFERENCES = (
    ("pre-trained + fit", "random + fit"),
    ("pre-trained", "random"),
    ("pre-trained + fit", "EEGNet"),
    ("pre-trained + fit", "band power"),
)


@dataclass
class ComparisonArguments:
    """The checkpoint, the tasks, and the settings of both starts."""

    model: str = field(metadata={"help": "Checkpoint."})
    data: str = field(metadata={"help": "The manifest of the labelled recordings."})
    output: str = field(
        default="research/results/compare_pretraining", metadata={"help": "Result files, without suffix."}
    )
    cells: str = field(default="runs/compare_pretraining", metadata={"help": "Folder for finished trainings."})
    tasks: list[str] = field(
        default_factory=lambda: list(TASKS), metadata={"help": f"Tasks, of {', '.join(TASKS)}; default all."}
    )
    methods: list[str] = field(
        default_factory=lambda: list(METHODS), metadata={"help": f"Methods, of {', '.join(METHODS)}; default all."}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of drawn windows, weights and batches."}
    )
    shares: list[float] = field(
        default_factory=lambda: [1.0, 0.1], metadata={"help": "Shares of the labelled training windows."}
    )
    folds: int | None = field(
        default=None, metadata={"help": "Leave out people of train in this many folds; val and test stay unopened."}
    )
    max_train_windows: int = field(
        default=400, metadata={"help": "Training windows at a share of 1, drawn evenly over people."}
    )
    epochs: int = field(
        default=5, metadata={"help": "Epochs at a share of 1; other shares get the same number of steps."}
    )
    batch_size: int = field(default=16, metadata={"help": "Windows in a batch."})
    learning_rate: float = field(default=3e-4, metadata={"help": "Of the head; cosine after a tenth of warm-up."})
    layer_decay: float = field(
        default=1.0, metadata={"help": "Learning rate of each encoder layer relative to the layer above it."}
    )
    config: str = field(default="{}", metadata={"help": "Fields of the configuration to set, in JSON."})
    evaluations: int = field(default=5, metadata={"help": "Evaluations during training; one more comes before it."})

    def __post_init__(self):
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"A method must be one of {', '.join(METHODS)}, but there are {unknown}.")
        if not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares must be above 0 and at most 1 (all labels), but are {self.shares}.")


@dataclass
class Windows:
    """
    What all methods get for a task and a seed, with the channels that all recordings have: the training windows at a
    share of 1, and the windows to score.
    """

    train: Dataset
    scored: Dataset
    extractor: NeurIPTFeatureExtractor

    @classmethod
    def of(cls, task: TaskArguments, arguments: ComparisonArguments, seed: int) -> "Windows":
        extractor = make_extractor(task, arguments.model)
        if arguments.folds:
            (windows,), _ = on_common_channels(load_splits(task, extractor)["train"])
            labels, people = np.asarray(windows["labels"]), np.asarray(windows["subject"])
            folds = people_folds(labels, people, arguments.folds)
            others, left_out = folds[seed % len(folds)]
            train, scored = windows.select(others), windows.select(left_out)
        else:
            (train, scored), _ = on_common_channels(*load_task(task, extractor, seed)[:2])
        return cls(draw_windows(train, min(arguments.max_train_windows, len(train)), seed), scored, extractor)

    def share(self, share: float, seed: int) -> Dataset:
        return draw_windows(self.train, max(1, round(share * len(self.train))), seed)


def fine_tune(method: str, windows: Windows, share: float, seed: int, arguments: ComparisonArguments) -> dict:
    """Scores of the windows `[windows, classes]` after training, and the accuracy at each evaluation."""
    train = windows.share(share, seed)
    set_seed(seed)
    model = make_classifier(ModelArguments(model=arguments.model, config=arguments.config), train, windows.extractor)
    if method.startswith("random"):
        set_seed(seed)
        model = NeurIPTForSequenceClassification(copy.deepcopy(model.config))
    between = max(1, ceil(len(windows.train) / arguments.batch_size) * arguments.epochs // arguments.evaluations)
    training = TrainingArguments(
        output_dir=f"{arguments.cells}/trainer",
        max_steps=between * arguments.evaluations,
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=32,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=5e-3,
        max_grad_norm=1.0,
        eval_on_start=True,
        eval_strategy="steps",
        eval_steps=between,
        logging_steps=between,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=seed,
    )
    model = model.float().to(training.device)
    if method.endswith("+ fit"):
        start_from_fit(model, train, seed)

    evaluated = []

    def keep(prediction: EvalPrediction) -> dict[str, float]:
        evaluated.append(prediction.predictions)
        return compute_metrics(prediction)

    trainer = make_trainer(
        model, training, arguments.layer_decay, train_dataset=train, eval_dataset=windows.scored, compute_metrics=keep
    )
    trainer.remove_callback(PrinterCallback)  # the curve has what it would print
    trainer.train()
    curve = {
        str(entry["step"]): entry["eval_balanced_accuracy"]
        for entry in trainer.state.log_history
        if "eval_balanced_accuracy" in entry
    }
    return {"scores": evaluated[-1], "curve": curve}


def fit_beside(method: str, windows: Windows, share: float, seed: int) -> dict:
    """Scores of the windows `[windows, classes]` from EEGNet or band power."""
    train, rate = windows.share(share, seed), windows.extractor.sampling_rate
    classifier = EEGNetClassifier(rate, seed=seed) if method == "EEGNet" else band_power_baseline(rate)
    classifier.fit(signals_in_microvolt(train, windows.extractor), np.asarray(train["labels"]))
    return {"scores": classifier.predict_log_proba(signals_in_microvolt(windows.scored, windows.extractor))}


def settings_of(method: str, arguments: ComparisonArguments) -> dict:
    """All that decides a cell besides task, share and seed, so that a cell with other settings is not reused."""
    settings = {"max_train_windows": arguments.max_train_windows, "folds": arguments.folds}
    if method not in FINE_TUNED:
        return settings
    names = ("epochs", "batch_size", "learning_rate", "layer_decay", "config", "evaluations")
    settings |= {name: getattr(arguments, name) for name in names}
    if method.startswith("pre-trained"):
        return settings | {"weights": weights_of(arguments.model)["sha256"]}
    architecture = json.loads(NeurIPTConfig.from_pretrained(arguments.model).to_json_string())
    for name in ("transformers_version", "architectures", "dtype"):  # these do not change the model
        architecture.pop(name, None)
    return settings | {"architecture": architecture}


@dataclass(frozen=True)
class Cell:
    """One training of the comparison, and the file with its result."""

    task: str
    method: str
    share: float
    seed: int

    def file(self, arguments: ComparisonArguments) -> Path:
        method = self.method.replace(" + ", "-").replace(" ", "-")
        return Path(arguments.cells) / f"{self.task}_{method}_{self.share:g}_{self.seed}.json"

    def finished(self, arguments: ComparisonArguments, settings: dict) -> dict | None:
        """
        Its result, if it is finished.

        Raises:
            ValueError: where it was trained with other settings.
        """
        file = self.file(arguments)
        if not file.is_file():
            return None
        content = json.loads(file.read_text())
        before = content["settings"]
        others = [name for name in settings | before if settings.get(name) != before.get(name)]
        if others:
            raise ValueError(
                f"{file} was made with other settings of {', '.join(others)}: choose another folder with --cells, or "
                "delete it."
            )
        return content


def train(cell: Cell, windows: Windows, arguments: ComparisonArguments, settings: dict, commit: str | None) -> None:
    """Trains, scores, and writes the result."""
    start = time.monotonic()
    if cell.method in FINE_TUNED:
        content = fine_tune(cell.method, windows, cell.share, cell.seed, arguments)
    else:
        content = fit_beside(cell.method, windows, cell.share, cell.seed)
    accuracy = AccuracyOverPeople.of(content["scores"], windows.scored).value
    content |= {
        "scores": content["scores"].tolist(),
        "settings": settings,
        "seconds": time.monotonic() - start,
        "commit": commit,
    }
    write_json(cell.file(arguments), content)
    print(f"{cell.file(arguments).stem}: {accuracy:.3f} after {content['seconds']:.0f} s", flush=True)


def read_cells(windows: dict[tuple[str, int], Windows], arguments: ComparisonArguments) -> dict[Cell, dict]:
    """The results for these tasks and seeds."""
    return {
        Cell(task, method, share, seed): json.loads(Cell(task, method, share, seed).file(arguments).read_text())
        for share in arguments.shares
        for method in arguments.methods
        for task, seed in windows
    }


def results_of(
    cells: dict[Cell, dict], windows: dict[tuple[str, int], Windows], arguments: ComparisonArguments
) -> dict[str, dict[str, dict]]:
    """For each share and task: mean accuracies over the seeds, and their differences, paired over people."""
    accuracies = {
        cell: AccuracyOverPeople.of(np.asarray(content["scores"]), windows[cell.task, cell.seed].scored)
        for cell, content in cells.items()
    }
    results = {f"{share:g}": {} for share in arguments.shares}
    for (task, seed), data in windows.items():
        for share in arguments.shares:
            result = results[f"{share:g}"].setdefault(
                task,
                {
                    "classes": data.train.features["labels"].names,
                    "people": len(set(data.scored["subject"])),
                    "windows": {"train": len(data.share(share, seed)), "scored": len(data.scored)},
                    "by_seed": {method: [] for method in arguments.methods},
                },
            )
            for method in arguments.methods:
                result["by_seed"][method].append(accuracies[Cell(task, method, share, seed)])
    for result in (result for tasks in results.values() for result in tasks.values()):
        means = {method: AccuracyOverPeople.mean(parts) for method, parts in result["by_seed"].items()}
        result["accuracies"] = means
        result["differences"] = {
            f"{one} minus {other}": means[one] - means[other]
            for one, other in DIFFERENCES
            if {one, other} <= set(means)
        }
    return results


def overall(tasks: dict[str, dict]) -> dict[str, dict]:
    """
    Mean accuracies and differences over the tasks that some method tells (told_tasks.py); for differences also how
    many are above 0, and the worst one.
    """
    tasks = counted(tasks)
    summary = {}
    for kind in ("accuracies", "differences"):
        for name in next(iter(tasks.values()))[kind]:
            parts = {task: result[kind][name] for task, result in tasks.items()}
            mean = AccuracyOverPeople.mean(list(parts.values()))
            summary[name] = {"value": mean.value, "interval": mean.interval}
            if kind == "differences":
                worst = min(parts, key=lambda task: parts[task].value)
                summary[name] |= {
                    "tasks_above_0": sum(part.value > 0 for part in parts.values()),
                    "worst": {"task": worst, "value": parts[worst].value, "interval": parts[worst].interval},
                }
    return summary


def counted(tasks: dict[str, dict]) -> dict[str, dict]:
    """The tasks whose means are taken; all of them where none is told."""
    untold = untold_tasks()
    return {name: task for name, task in tasks.items() if name not in untold} or tasks


def as_json(results: dict[str, dict[str, dict]]) -> dict:
    """The results as plain numbers."""

    def plain(result: dict) -> dict:
        return result | {
            "by_seed": {method: [part.value for part in parts] for method, parts in result["by_seed"].items()},
            "accuracies": {name: part.to_dict() for name, part in result["accuracies"].items()},
            "differences": {name: part.to_dict() for name, part in result["differences"].items()},
        }

    return {
        share: {"overall": overall(tasks), "tasks": {task: plain(result) for task, result in tasks.items()}}
        for share, tasks in results.items()
    }


def as_table(results: dict[str, dict[str, dict]]) -> str:
    """
    Markdown: a table for each share with a line for each task; accuracies are means over the seeds. The table has the
    differences between pre-trained and random weights; those to other methods are below it.
    """
    lines = []
    for share, tasks in results.items():
        first = next(iter(tasks.values()))
        methods, differences = list(first["accuracies"]), list(first["differences"])
        columns = [name for name in differences if name.endswith(FINE_TUNED)]
        lines += [
            f"{float(share):.0%} of the labels:\n",
            f"| task | people, windows | trained on | chance | {' | '.join(methods + columns)} |",
            "|---" * (4 + len(methods) + len(columns)) + "|",
        ]
        for task, result in tasks.items():
            cells = [f"{result['accuracies'][method].value:.3f}" for method in methods]
            cells += [signed(result["differences"][name].to_dict()) for name in columns]
            about = f"{result['people']}, {result['windows']['scored']} | {result['windows']['train']}"
            lines.append(f"| {task} | {about} | {1 / len(result['classes']):.3f} | {' | '.join(cells)} |")
        means, number = overall(tasks), len(counted(tasks))
        cells = [f"{means[method]['value']:.3f}" for method in methods]
        cells += [signed(means[name]) for name in columns]
        lines += [f"| mean of {number} tasks | | | | {' | '.join(cells)} |", ""]
        for name in differences:
            mean, worst = means[name], means[name]["worst"]
            lines.append(
                f"- {name}: {signed(mean)} in the mean, above 0 on {mean['tasks_above_0']} of {number} tasks, "
                f"worst on {worst['task']}, {signed(worst)}"
            )
        lines.append("")
    return "\n".join(lines).strip()


def curve_table(cells: dict[Cell, dict]) -> pd.DataFrame:
    """Balanced accuracy at each evaluation, a line for each step of each training."""
    rows = [
        (cell.task, cell.share, cell.method, cell.seed, int(step), round(accuracy, 4))
        for cell, content in cells.items()
        for step, accuracy in content.get("curve", {}).items()
    ]
    return pd.DataFrame(rows, columns=["task", "share", "method", "seed", "step", "balanced_accuracy"])


def prediction_table(cells: dict[Cell, dict], windows: dict[tuple[str, int], Windows]) -> pd.DataFrame:
    """A line for each scored window of each seed: its class and each method's prediction, as numbers."""
    tables = []
    for (task, seed), data in windows.items():
        predicted = {
            f"{cell.method} at {cell.share:g}": np.argmax(content["scores"], axis=1)
            for cell, content in cells.items()
            if (cell.task, cell.seed) == (task, seed)
        }
        known = {name: data.scored[name] for name in ("subject", "recording", "onset", "labels")}
        tables.append(pd.DataFrame({"task": task, "seed": seed} | known | predicted))
    return pd.concat(tables)


def write(
    windows: dict[tuple[str, int], Windows], arguments: ComparisonArguments, origin: dict
) -> dict[str, dict[str, dict]]:
    """Writes the result files, with the seeds that are finished for all tasks."""
    cells = read_cells(windows, arguments)
    results, curves = results_of(cells, windows, arguments), curve_table(cells)
    output = Path(arguments.output)
    for ending, save in (
        ("_curves.csv", lambda file: curves.to_csv(file, index=False)),
        ("_predictions.csv", lambda file: prediction_table(cells, windows).to_csv(file, index=False)),
    ):
        with atomic_write(output.with_name(output.name + ending)) as partial:
            save(partial)
    about = {
        "weights": weights_of(arguments.model),
        "arguments": asdict(arguments),
        "seeds": sorted({seed for _, seed in windows}),
        "seconds": round(sum(content["seconds"] for content in cells.values())),
        "commits_of_trainings": sorted({str(content["commit"]) for content in cells.values()}),
        "provenance": origin,
    }
    write_json(
        output.with_name(f"{output.name}.json"), about | {"table": as_table(results), "shares": as_json(results)}
    )
    return results


def main():
    (arguments,) = parse_with_file(HfArgumentParser(ComparisonArguments), sys.argv[1:])
    origin = provenance()  # before results are written: they change the tree, not the code that runs
    logging.set_verbosity_error()  # else each loading reports that the head is new
    logging.disable_progress_bar()  # a line for each training is enough
    tasks = {name: manifest_task(name, arguments.data) for name in arguments.tasks}
    for task in tasks.values():
        if arguments.folds:
            task.rows = [*task.rows, f"{task.split_column}=train"]
        else:
            refuse_seen(task, arguments.model)
    settings = {method: settings_of(method, arguments) for method in arguments.methods}
    everything = product(tasks, arguments.methods, arguments.shares, arguments.seeds)
    for cell in (Cell(*names) for names in everything):
        cell.finished(arguments, settings[cell.method])  # other settings are refused before anything is trained

    windows = {}
    for seed in arguments.seeds:
        for name, task in tasks.items():
            windows[name, seed] = Windows.of(task, arguments, seed)
            for share in arguments.shares:
                for method in arguments.methods:
                    cell = Cell(name, method, share, seed)
                    if cell.finished(arguments, settings[method]) is None:
                        train(cell, windows[name, seed], arguments, settings[method], origin["commit"])
        results = write(windows, arguments, origin)
    print(as_table(results))


if __name__ == "__main__":
    keep_memory()
    main()
