"""What the example programs share: arguments that describe a task, its windows, and a result file."""

import json
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets

from neuript_hf import NeurIPTConfig, NeurIPTFeatureExtractor, load_recordings
from neuript_hf.baselines import band_power_baseline, signals_in_microvolt, tangent_space_baseline
from neuript_hf.metrics import bootstrap_interval, classification_scores, scores_by_person


@dataclass
class TaskArguments:
    """A task: recordings, where their classes come from, and how windows are cut."""

    data: str = field(metadata={"help": "A manifest (.csv, .tsv, .jsonl) or a folder of recordings."})
    rows: list[str] = field(
        default_factory=list, metadata={"help": "Rows of the manifest to use, as column=value, e.g. set=eegmat."}
    )
    label_column: str = field(default="label", metadata={"help": "Column with the class of a whole recording."})
    events: list[str] = field(
        default_factory=list,
        metadata={"help": "Annotations that start a window and name its class; instead of label_column."},
    )
    event_offset_seconds: float = field(default=0.0, metadata={"help": "Start of the window after the annotation."})
    window_seconds: float | None = field(
        default=None, metadata={"help": "Window length; default the extractor's, 4 s."}
    )
    montage: str = field(
        default="double_banana", metadata={"help": "Montage by name, as_recorded, or names and pairs with commas."}
    )
    notch_freq: float | None = field(default=None, metadata={"help": "Mains frequency to remove, in hertz."})
    on_missing: str = field(default="raise", metadata={"help": "Missing electrodes: raise, drop or interpolate."})
    split_column: str = field(default="split", metadata={"help": "Column with train, val, test."})
    within_subject: bool = field(default=False, metadata={"help": "A person may be on several sides of the split."})
    evaluate_on: list[str] = field(
        default_factory=lambda: ["validation", "test"],
        metadata={"help": "Splits whose people are scored together; nothing is fitted or chosen on them."},
    )
    max_train_windows: int | None = field(default=None, metadata={"help": "Train on so many windows, drawn by seed."})
    baseline: str = field(
        default="band_power",
        metadata={"help": "Classical method on the same windows: band_power, tangent_space, none."},
    )
    baseline_frequencies: list[float] = field(
        default_factory=list, metadata={"help": "Filter bank of tangent_space, in hertz (steady-state responses)."}
    )


def make_extractor(task: TaskArguments, checkpoint: str | None) -> NeurIPTFeatureExtractor:
    """The checkpoint's extractor with the task's montage, or a new one."""
    names = task.montage.split(",")
    settings = {
        "montage": names if len(names) > 1 else task.montage,
        "notch_freq": task.notch_freq,
        "on_missing": task.on_missing,
    }
    if task.window_seconds is not None:
        settings["window_seconds"] = task.window_seconds
    if checkpoint is None:
        return NeurIPTFeatureExtractor(**settings)
    return NeurIPTFeatureExtractor.from_pretrained(checkpoint, **settings)


def load_task(
    task: TaskArguments, extractor: NeurIPTFeatureExtractor, seed: int
) -> tuple[Dataset, Dataset, DatasetDict]:
    """Windows of the training people, windows of the people that are scored, and all splits."""
    splits = load_recordings(
        task.data,
        extractor,
        rows=dict(row.split("=", 1) for row in task.rows) or None,
        label_column=task.label_column,
        events=task.events or None,
        event_offset_seconds=task.event_offset_seconds,
        split_column=task.split_column,
        within_subject=task.within_subject,
    )
    train = splits["train"]
    if task.max_train_windows is not None and task.max_train_windows < len(train):
        train = train.shuffle(seed=seed).select(range(task.max_train_windows))
    unseen = concatenate_datasets([splits[name] for name in task.evaluate_on if name in splits])
    return train, unseen, splits


def scores_of(logits: np.ndarray, dataset: Dataset) -> dict:
    """All scores of windows and recordings, the interval over people, and each person by themselves."""
    labels, subjects = np.asarray(dataset["labels"]), list(dataset["subject"])
    scores = classification_scores(logits, labels, list(dataset["recording"]))
    low, high = bootstrap_interval(logits, labels, subjects)
    return {
        **scores,
        "balanced_accuracy_interval": [low, high],
        "chance": 1 / logits.shape[1],
        "people": len(set(subjects)),
        "windows": len(labels),
        "by_person": {
            person: values["balanced_accuracy"]
            for person, values in scores_by_person(logits, labels, subjects).items()
        },
    }


def baseline_scores(
    task: TaskArguments, train: Dataset, unseen: Dataset, extractor: NeurIPTFeatureExtractor
) -> dict | None:
    """The task's classical method, fitted and scored on the same windows as the model."""
    if task.baseline == "none":
        return None
    rate = extractor.sampling_rate
    if task.baseline == "band_power":
        method = band_power_baseline(rate)
    elif task.baseline == "tangent_space":
        method = tangent_space_baseline(rate, task.baseline_frequencies)
    else:
        raise ValueError(f"baseline must be band_power, tangent_space or none, but is {task.baseline!r}.")
    method.fit(signals_in_microvolt(train, extractor), np.asarray(train["labels"]))
    return scores_of(method.predict_log_proba(signals_in_microvolt(unseen, extractor)), unseen)


def new_config(size: str, train: Dataset, extractor: NeurIPTFeatureExtractor, **overrides) -> NeurIPTConfig:
    """A configuration of the named size for the task's classes and the extractor's lobes."""
    names = train.features["labels"].names
    return getattr(NeurIPTConfig, size)(
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        num_lobes=extractor.num_lobes,
        **overrides,
    )


def write_results(folder: str, results: dict, task: TaskArguments, seed: int) -> None:
    """`results.json`: the numbers with all that is needed to get them again."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    provenance = {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "commit": commit.stdout.strip() or None,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers", "datasets", "mne", "scikit-learn")},
        "task": asdict(task),
    }
    path = Path(folder) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**results, "provenance": provenance}, indent=2))
    temporary.replace(path)


def print_scores(title: str, rows: dict[str, dict | None]) -> None:
    """A table with one method a line; scores of unseen people."""
    print(f"\n{title}")
    print(
        f"{'':24}{'balanced acc.':>14}{'95 % over people':>19}{'kappa':>8}{'F1':>7}{'AUROC':>7}{'per recording':>15}"
    )
    for name, scores in rows.items():
        if scores is None:
            continue
        low, high = scores["balanced_accuracy_interval"]
        recording = scores.get("recording_balanced_accuracy")
        print(
            f"{name:24}{scores['balanced_accuracy']:14.3f}{f'{low:.3f} .. {high:.3f}':>19}{scores['cohen_kappa']:8.3f}"
            f"{scores['weighted_f1']:7.3f}{scores['auroc']:7.3f}{'-' if recording is None else f'{recording:.3f}':>15}"
        )
