"""
Which tasks any method tells, decided once, by folds over people of `train`, and read by all evaluations.

    python research/evaluate_features.py --model hub/neuript-tiny --data manifest.csv --folds 5 --output folds.json
    python research/told_tasks.py --folds folds.json

A task is told if the method with the highest balanced accuracy, as it comes or centred, is above chance with its whole
95 % interval over people. The other tasks are reported and leave the means: evaluate_features.py reads
`results/tasks_told.json`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from tasks import TOLD
from transformers import HfArgumentParser

from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.data.atomic import write_json


@dataclass
class ToldArguments:
    folds: str = field(metadata={"help": "Result file of evaluate_features.py --folds."})
    output: str = field(default=str(TOLD), metadata={"help": "Result file to write (.json)."})


def told(task: dict) -> dict:
    """The best method of a task, its accuracy and interval, and whether they tell the classes."""
    methods = {name: value for name, value in task["accuracies"].items() if not name.startswith("random ")}
    best = max(methods, key=lambda name: methods[name]["value"])
    chance, interval = 1 / len(task["classes"]), methods[best]["interval"]
    return {
        "told": interval[0] > chance,
        "best": best,
        "value": methods[best]["value"],
        "interval": interval,
        "chance": chance,
    }


def main():
    (arguments,) = HfArgumentParser(ToldArguments).parse_args_into_dataclasses()
    result = json.loads(Path(arguments.folds).read_text())
    if not result["arguments"]["folds"]:
        raise ValueError(
            f"{arguments.folds} scores people of val and test, who decide nothing. Run evaluate_features.py --folds 5."
        )
    tasks = {name: told(task) for name, task in result["tasks"].items()}
    about = {"weights": result["weights"], "arguments": result["arguments"], "evaluation": result["provenance"]}
    write_json(Path(arguments.output), {"tasks": tasks} | about | {"provenance": provenance()})
    for name, task in tasks.items():
        low, high = task["interval"]
        print(f"{name}: {task['best']} {task['value']:.3f} ({low:.3f} to {high:.3f}), told: {task['told']}")


if __name__ == "__main__":
    main()
