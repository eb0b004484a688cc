"""A labelled task as the arguments of a program: which recordings, where their classes come from, who is tested."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from datasets import Dataset, DatasetDict, concatenate_datasets

from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from .manifest import SPLIT_NAMES, assign_splits, read_table, table_targets
from .people import dataset_of
from .targets import ONE_CLASS, Targets
from .windows import load_recordings


@dataclass
class TaskArguments:
    """A task: recordings, where their classes come from, and how windows are cut. For `HfArgumentParser`."""

    data: str = field(metadata={"help": "A manifest (.csv, .tsv, .jsonl) or a folder of recordings."})
    rows: list[str] = field(
        default_factory=list, metadata={"help": "Rows of the manifest to use, as column=value, e.g. set=eegmat."}
    )
    label_column: list[str] = field(
        default_factory=lambda: ["label"],
        metadata={"help": "Column, or columns, with the labels of a whole recording."},
    )
    problem_type: str | None = field(
        default=None,
        metadata={
            "help": "What the labels are: single_label_classification (classes, the default), "
            "multi_label_classification (several at once, eye;muscle or columns of 0 and 1) or regression (numbers)."
        },
    )
    events: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Annotations at which a window starts, each a class of its own, or annotation=class; instead of "
            "label_column."
        },
    )
    event_offset_seconds: float = field(
        default=0.0, metadata={"help": "Start of the window relative to the annotation."}
    )
    window_seconds: float | None = field(
        default=None, metadata={"help": "Window length; default: the extractor's, 4 s."}
    )
    montage: str = field(
        default="double_banana",
        metadata={"help": "Name of a montage, as_recorded, or channel names and pairs separated by commas."},
    )
    notch_freq: float | None = field(default=None, metadata={"help": "Mains frequency to remove, in hertz."})
    on_missing: str = field(default="raise", metadata={"help": "Missing electrodes: raise, drop or interpolate."})
    reject_by_annotation: bool = field(
        default=True, metadata={"help": "Leave out windows in time that annotations mark as BAD."}
    )
    filter_phase: str | None = field(
        default=None,
        metadata={"help": "zero, or minimum for a model that is to be used live; default: the checkpoint's, or zero."},
    )
    split_column: str = field(default="split", metadata={"help": "Column with train, val or test."})
    within_subject: bool = field(
        default=False, metadata={"help": "Allow the same person in several splits (within-subject protocols)."}
    )
    trust_manifest: bool = field(
        default=False,
        metadata={
            "help": "Take other names for other people and other rows for other recordings, however much they look "
            "like the same (sub-01 and 1, a file and its copy)."
        },
    )
    evaluate_on: list[str] = field(
        default_factory=lambda: ["validation", "test"],
        metadata={
            "help": "Splits to score. People on whom something is chosen (--load_best_model_at_end) are scored apart."
        },
    )
    dataset: str | None = field(
        default=None,
        metadata={"help": "Name of the data set, put before its people; default: the column dataset or set."},
    )
    allow_seen_people: bool = field(
        default=False, metadata={"help": "Also score people the checkpoint was trained on."}
    )
    max_train_windows: int | None = field(
        default=None, metadata={"help": "Train on at most this many windows, drawn by seed."}
    )
    caution: str | None = field(
        default=None,
        metadata={"help": "What users of the weights must know about the data; goes into the model card."},
    )
    baseline: str = field(
        default="band_power",
        metadata={"help": "Classical method on the same windows: band_power, tangent_space, eegnet or none."},
    )
    baseline_frequencies: list[float] = field(
        default_factory=list, metadata={"help": "Filter bank of tangent_space, in hertz, for steady-state responses."}
    )

    def __post_init__(self):
        unknown = sorted(set(self.evaluate_on) - set(SPLIT_NAMES))
        if unknown or not self.evaluate_on:
            raise ValueError(f"evaluate_on must be of {', '.join(SPLIT_NAMES)}, but is {self.evaluate_on}.")
        self.evaluate_on = list(dict.fromkeys(SPLIT_NAMES[name] for name in self.evaluate_on))

    @property
    def chosen_rows(self) -> dict[str, str] | None:
        """Column -> value."""
        return dict(row.split("=", 1) for row in self.rows) or None

    @property
    def event_classes(self) -> dict[str, str] | None:
        """Annotation -> class."""
        pairs = (event.partition("=") for event in self.events)
        return {annotation: name or annotation for annotation, _, name in pairs} or None


def make_extractor(task: TaskArguments, checkpoint: str | None) -> NeurIPTFeatureExtractor:
    """The checkpoint's feature extractor, or a new one, with the task's montage, filter and window length."""
    names = task.montage.split(",")
    settings = {
        "montage": names if len(names) > 1 else task.montage,
        "notch_freq": task.notch_freq,
        "on_missing": task.on_missing,
        "reject_by_annotation": task.reject_by_annotation,
    }
    if task.window_seconds is not None:
        settings["window_seconds"] = task.window_seconds
    if task.filter_phase is not None:
        settings["filter_phase"] = task.filter_phase
    if checkpoint is None:
        return NeurIPTFeatureExtractor(**settings)
    return NeurIPTFeatureExtractor.from_pretrained(checkpoint, **settings)


def load_splits(task: TaskArguments, extractor: NeurIPTFeatureExtractor) -> DatasetDict:
    """The windows of every split, see [`load_recordings`]."""
    return load_recordings(
        task.data,
        extractor,
        rows=task.chosen_rows,
        label_column=task.label_column,
        problem_type=task.problem_type,
        events=task.event_classes,
        event_offset_seconds=task.event_offset_seconds,
        split_column=task.split_column,
        within_subject=task.within_subject,
        trust_manifest=task.trust_manifest,
    )


def load_task(
    task: TaskArguments, extractor: NeurIPTFeatureExtractor, seed: int
) -> tuple[Dataset, Dataset, DatasetDict]:
    """
    The training windows, the windows to score (all splits of `evaluate_on` together), and all splits.

    Raises:
        ValueError: as [`load_recordings`], and where nobody is in `train` or in any split of `evaluate_on`, or `train`
            itself is to be scored.
    """
    if "train" in task.evaluate_on:
        raise ValueError("The people of train are trained on, so evaluate_on must not name train.")
    present = set(task_table(task)["split"])
    for names in (["train"], task.evaluate_on):
        if not set(names) & present:
            raise ValueError(
                f"Nobody is in {' or '.join(names)}; the recordings of {task.data} are in "
                f"{', '.join(sorted(present))}. Change the column {task.split_column!r}, leave it out to have people "
                "drawn, or change evaluate_on."
            )
    splits = load_splits(task, extractor)
    train = splits["train"]
    if task.baseline == "eegnet" and (problem_type := Targets.of(train).problem_type) != ONE_CLASS:
        raise ValueError(
            f"The baseline eegnet is for one class for each window, not for {problem_type}. Choose band_power, "
            "tangent_space or none."
        )
    if task.max_train_windows is not None and task.max_train_windows < len(train):
        train = train.shuffle(seed=seed).select(range(task.max_train_windows))
    unseen = concatenate_datasets([splits[name] for name in task.evaluate_on if name in splits])
    return train, unseen, splits


def task_table(task: TaskArguments) -> pd.DataFrame:
    """
    The task's recordings without opening them. One row each with `file`, `subject`, `split`, the manifest's other
    columns, and `dataset`, which is empty where neither the task nor the manifest names it.

    Raises:
        ValueError: as [`load_recordings`], for the manifest, its people and its labels.
    """
    table = read_table(Path(task.data), task.chosen_rows, task.label_column, task.event_classes)
    table = assign_splits(
        table, task.split_column, within_subject=task.within_subject, trust_manifest=task.trust_manifest
    )
    table_targets(table, task.label_column, task.problem_type)  # refuses labels before anything is opened
    table["dataset"] = task.dataset or dataset_of(table)
    return table


__all__ = ["TaskArguments", "load_splits", "load_task", "make_extractor", "task_table"]
