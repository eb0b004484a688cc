"""
A markdown table of several result folders: runs of one task with different seeds become one line.

    python examples/summarise.py --folders runs/eegmat-0 runs/eegmat-1 runs/eegmat-2 runs/ssvep_exo-0
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from transformers import HfArgumentParser


METHODS = {"head_start": "frozen + fit", "model": "fine-tuned", "baseline": "classical"}


@dataclass
class SummaryArguments:
    folders: list[str] = field(metadata={"help": "Folders with a results.json, named task-seed."})


def summarise(folders: list[str]) -> str:
    """
    One line for each task: people, windows and chance, and for each method the mean balanced accuracy over seeds with
    its range. The interval over people (bootstrap, 95 %) is the mean of the seeds' intervals: seeds share the people.
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
        about = f"{model['people']}, {model['windows']}"
        lines.append(f"| {task} | {about} | {len(results)} | {model['chance']:.3f} | {' | '.join(cells)} |")
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
    print(summarise(command.folders))
