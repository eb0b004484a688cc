"""
What a head on frozen features rests on in tasks whose answer is known: the sides of the fists, the lobe of the alpha
rhythm, the frequencies of the lights.

    python research/explain_tasks.py --data manifest.csv

The head is a logistic regression on the features of people of `train`, with a fixed penalty; the windows that are
explained are of people of `val` and `test`. Nothing is chosen on anybody. Writes `results/explain_TASK.json` and the
figures of docs/explain.md.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from datasets import Dataset
from tasks import manifest_task
from transformers import HfArgumentParser

from neuript_hf import NeurIPTForSequenceClassification, task_config
from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.checkpoints.tested_people import TestedPeople
from neuript_hf.checkpoints.training_record import refuse_seen, weights_of
from neuript_hf.data.atomic import write_json
from neuript_hf.data.tasks import load_task, make_extractor
from neuript_hf.data.windows import channel_reports
from neuript_hf.evaluation.baselines import BANDS
from neuript_hf.evaluation.forward import outputs_of
from neuript_hf.evaluation.metrics import AccuracyOverPeople
from neuript_hf.evaluation.target_fits import start_from_fit
from neuript_hf.explain.occlusion import occlusion
from neuript_hf.explain.summary import summarise
from neuript_hf.training.cpu import keep_memory


matplotlib.use("Agg")

from neuript_hf.explain.figures import explanation_figure  # noqa: E402  (after the backend is chosen)


ROOT = Path(__file__).resolve().parents[1]
# Hertz: a band of 1 Hz around each light, and between them, where nothing flickers.
LIGHTS = ((12.5, 13.5), (14.5, 15.5), (16.5, 17.5), (18.5, 19.5), (20.5, 21.5), (22.5, 23.5), (25.5, 26.5))
TASK_BANDS = {"eyes": BANDS, "ssvep": LIGHTS, "fists": BANDS}


@dataclass
class ExplainArguments:
    """The checkpoint, the tasks, and how many windows."""

    data: str = field(metadata={"help": "The manifest of the labelled recordings."})
    model: str = field(default="hub/neuript-tiny", metadata={"help": "Checkpoint."})
    tasks: list[str] = field(default_factory=lambda: list(TASK_BANDS), metadata={"help": "Tasks of this program."})
    penalty: float = field(default=1.0, metadata={"help": "Of the regression, as in evaluate_features.py."})
    windows_per_person: int = field(default=12, metadata={"help": "At most, spread over the person's windows."})


def spread(windows: Dataset, per_person: int) -> Dataset:
    """At most `per_person` windows of each person, as many of each class, spread evenly over the recordings."""
    chosen, subjects, labels = [], np.asarray(windows["subject"]), np.asarray(windows["labels"])
    for person in np.unique(subjects):
        classes = np.unique(labels[subjects == person])
        for label in classes:
            rows = np.flatnonzero((subjects == person) & (labels == label))
            count = min(len(rows), max(1, per_person // len(classes)))
            chosen += rows[np.linspace(0, len(rows) - 1, count).round().astype(int)].tolist()
    return windows.select(sorted(chosen))


def explain(name: str, arguments: ExplainArguments) -> dict:
    """One task: the accuracy of the head and its explanation, overall and by class; draws the figure."""
    task = manifest_task(name, arguments.data)
    seen = refuse_seen(task, arguments.model)
    extractor = make_extractor(task, arguments.model)
    train, scored, _ = load_task(task, extractor, 0)
    model = NeurIPTForSequenceClassification.from_pretrained(arguments.model, **task_config(train, extractor))
    start_from_fit(model, train, penalty=arguments.penalty)
    reports, some = channel_reports(scored), spread(scored, arguments.windows_per_person)
    table = occlusion(model, some, extractor, bands=TASK_BANDS[name], reports=reports)
    logits = np.concatenate([outputs.logits.numpy() for outputs in outputs_of(model, some, 32, "scores")])
    accuracy = AccuracyOverPeople.of(logits, some)
    whole, by_class = summarise(table), summarise(table, by_target=True)
    low, high = accuracy.interval
    title = (
        f"{name}: {len(some)} windows of {len(accuracy.by_person)} people; "
        f"balanced accuracy {accuracy.value:.2f} ({low:.2f} to {high:.2f})"
    )
    drawn = by_class if name == "ssvep" else whole  # each light has a band of its own
    explanation_figure(drawn, title).savefig(ROOT / "docs" / f"explain_{name}.png", dpi=80)
    return {
        "task": asdict(task),
        "weights": weights_of(arguments.model),
        "arguments": asdict(arguments),
        "classes": train.features["labels"].names,
        "windows": {"train": len(train), "explained": len(some), "of": len(scored)},
        "people": len(accuracy.by_person),
        "tested_people": TestedPeople.of(task, arguments.model, some, train).to_dict(),
        "seen_people": seen,
        "balanced_accuracy": accuracy.to_dict(),
        "all classes": whole.drop(columns=["start", "stop"]).to_dict("records"),
        "by class": by_class.drop(columns=["start", "stop"]).to_dict("records"),
        "provenance": provenance(),
    }


def main():
    (arguments,) = HfArgumentParser(ExplainArguments).parse_args_into_dataclasses()
    if unknown := [name for name in arguments.tasks if name not in TASK_BANDS]:
        raise ValueError(f"tasks must be of {', '.join(TASK_BANDS)}, but are {unknown}.")
    for name in arguments.tasks:
        result = explain(name, arguments)
        write_json(ROOT / "research" / "results" / f"explain_{name}.json", result)
        print(name, result["balanced_accuracy"]["value"], flush=True)
        for row in result["by class"]:
            print(f"{row['target']:12} {row['what']:12} {row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})")


if __name__ == "__main__":
    keep_memory()
    main()
