"""
Markdown tables from result files.

    python research/summarise.py --folders runs/eegmat-0 runs/eegmat-1 runs/eegmat-2 runs/ssvep_exo-0
    python research/summarise.py --evaluations runs/a/folds.json runs/b/folds.json

The first reads results of finetune.py: a line for each task, over its seeds. The second reads results of
evaluate_features.py: a line for each checkpoint.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from transformers import HfArgumentParser

from neuript_hf.evaluation.metrics import signed


METHODS = {"head_start": "frozen + fit", "model": "fine-tuned", "baseline": "classical"}


@dataclass
class SummaryArguments:
    folders: list[str] = field(
        default_factory=list, metadata={"help": "Folders with a results.json of finetune.py, named task-seed."}
    )
    evaluations: list[str] = field(
        default_factory=list, metadata={"help": "Result files of evaluate_features.py for the same tasks."}
    )


def summarise(folders: list[str]) -> str:
    """
    One line for each task: people, windows, chance, and for each method the mean balanced accuracy over the seeds, its
    range, and the mean of the seeds' 95 % intervals over people (all seeds have the same people).
    """
    runs = defaultdict(list)
    for folder in map(Path, folders):
        runs[folder.name.rsplit("-", 1)[0]].append(json.loads((folder / "results.json").read_text()))
    lines = [
        "| task | people, windows | seeds | chance | " + " | ".join(METHODS.values()) + " |",
        "|---|---|---|---|" + "---|" * len(METHODS),
    ]
    for task, results in runs.items():
        model = results[0]["model"]
        cells = [_cell([result[method] for result in results if result.get(method)]) for method in METHODS]
        tested = results[0].get("tested_people")
        people = tested["description"] if tested and len(tested["unseen"]) != model["people"] else model["people"]
        about = f"{people}, {model['windows']}"
        lines.append(f"| {task} | {about} | {len(results)} | {model['chance']:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(files: list[str]) -> str:
    """
    One line for each checkpoint: steps, balanced accuracy of each task, their mean, and its difference from random
    weights and band power, with the 95 % interval over people.

    Raises:
        ValueError: where the files have different tasks.
    """
    results = [json.loads(Path(file).read_text()) for file in files]
    tasks = list(results[0]["tasks"])
    for file, result in zip(files, results, strict=True):
        if list(result["tasks"]) != tasks:
            raise ValueError(f"{file} has the tasks {list(result['tasks'])}, but {files[0]} has {tasks}.")
    differences = [name for name in results[0]["overall"] if name.startswith("minus ")]
    header = ["weights", "steps", *tasks, "mean", *differences]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for result in results:
        values = [task["accuracies"]["checkpoint"]["value"] for task in result["tasks"].values()]
        values.append(result["overall"]["checkpoint"]["value"])
        weights = result["weights"]
        unknown = " (history unknown: perhaps it has seen these people)" if weights.get("history") == "unknown" else ""
        cells = [weights["checkpoint"] + unknown, str(weights["steps"])]
        cells += [f"{value:.3f}" for value in values]
        cells += [signed(result["overall"][name]) for name in differences]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(scores: list[dict]) -> str:
    if not scores:
        return "-"
    values = [score["balanced_accuracy"] for score in scores]
    low, high = (mean(bounds) for bounds in zip(*(s["balanced_accuracy_interval"] for s in scores), strict=True))
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(set(values)) > 1 else ""
    return f"{mean(values):.3f}{spread}, people {low:.2f} to {high:.2f}"


if __name__ == "__main__":
    (command,) = HfArgumentParser(SummaryArguments).parse_args_into_dataclasses()
    if command.folders:
        print(summarise(command.folders))
    if command.evaluations:
        print(compare(command.evaluations))
