"""What the example programs share: arguments that describe a task, its windows, its people, and a result file."""

import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers.utils import logging

from neuript_hf import NeurIPTConfig, NeurIPTFeatureExtractor, load_recordings
from neuript_hf.checkpoints.training_record import SeenDataset, read_training_record, refuse_seen_people
from neuript_hf.data.manifest import SPLIT_NAMES, SUBJECT_PATTERN, assign_splits, read_table
from neuript_hf.evaluation.baselines import band_power_baseline, signals_in_microvolt, tangent_space_baseline
from neuript_hf.evaluation.eegnet import EEGNetClassifier
from neuript_hf.evaluation.linear_probe import class_scores
from neuript_hf.evaluation.metrics import bootstrap_interval, classification_scores, scores_by_person


logger = logging.get_logger(__name__)

# Where no column says who is on which side: shares of the people in train, validation and test, and the draw's seed.
SPLIT_SHARES, SPLIT_SEED = (0.6, 0.2, 0.2), 0
DATASET_COLUMNS = ("dataset", "set")


@dataclass
class TaskArguments:
    """A task: recordings, where their classes come from, and how windows are cut."""

    data: str = field(metadata={"help": "A manifest (.csv, .tsv, .jsonl) or a folder of recordings."})
    rows: list[str] = field(
        default_factory=list, metadata={"help": "Rows of the manifest to use, as column=value, e.g. set=eegmat."}
    )
    label_column: str | None = field(default="label", metadata={"help": "Column with the class of a whole recording."})
    events: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Annotations that start a window and name its class (annotation=class where it has another name); "
            "instead of label_column."
        },
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
    dataset: str | None = field(
        default=None,
        metadata={"help": "Name of the data set, which goes before its people; default the column dataset or set."},
    )
    allow_seen_people: bool = field(
        default=False, metadata={"help": "Score people whom the checkpoint's weights have seen, too."}
    )
    max_train_windows: int | None = field(default=None, metadata={"help": "Train on so many windows, drawn by seed."})
    caution: str | None = field(
        default=None,
        metadata={"help": "What users of the weights must know of the task's data; stands in their card."},
    )
    baseline: str = field(
        default="band_power",
        metadata={"help": "Other method on the same windows: band_power, tangent_space, eegnet, none."},
    )
    baseline_frequencies: list[float] = field(
        default_factory=list, metadata={"help": "Filter bank of tangent_space, in hertz (steady-state responses)."}
    )


# The labelled tasks of the project's manifest, as fields of `TaskArguments`. Those of WITHIN_PERSON split the runs of
# each person: their figures say nothing about new people.
TASKS = {
    "arithmetic": {"rows": ["set=eegmat"]},
    "eyes": {"rows": ["set=epilepsy_gb"]},
    "epilepsy": {"rows": ["set=epilepsy_gb"], "label_column": "group"},
    "ssvep": {"rows": ["set=ssvep_exo"], "events": ["13 Hz", "17 Hz", "21 Hz"], "window_seconds": 5.0},
    "listening": {"rows": ["set=dasps"]},
    "anxiety": {"rows": ["set=dasps"], "label_column": "group"},
    "pictures": {
        "rows": ["set=uci_alcohol"],
        "events": ["S1 obj=first", "S2 match=second", "S2 nomatch=second"],
        "window_seconds": 1.0,
    },
    # the file's trials of one second lie end to end: cut into seconds they are the same windows as at the annotations
    "alcoholism": {"rows": ["set=uci_alcohol"], "label_column": "group", "window_seconds": 1.0},
}
WITHIN_PERSON = {
    "p300": {
        "rows": ["set=muse_p300"],
        "events": ["non-target", "target"],
        "event_offset_seconds": -0.1,
        "window_seconds": 1.0,
    },
    "n170": {
        "rows": ["set=muse_n170"],
        "events": ["face", "house"],
        "event_offset_seconds": -0.1,
        "window_seconds": 1.0,
    },
    "imagery": {"rows": ["set=eegmmidb"], "events": ["T1=left", "T2=right"]},
}


def manifest_task(name: str, data: str, **changes) -> TaskArguments:
    """
    A task of `TASKS` or `WITHIN_PERSON`, channels as they were recorded.

    Args:
        data: the manifest.
        changes: fields of `TaskArguments` that shall be others.

    Raises:
        ValueError: for a name that neither has.
    """
    if name in WITHIN_PERSON:
        fields = WITHIN_PERSON[name] | {"split_column": "within_split", "within_subject": True}
    elif name in TASKS:
        fields = TASKS[name]
    else:
        raise ValueError(f"A task must be one of {', '.join([*TASKS, *WITHIN_PERSON])}, but is {name!r}.")
    return TaskArguments(**{"data": data, "montage": "as_recorded", "window_seconds": 4.0} | fields | changes)


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
    splits = load_splits(task, extractor)
    train = splits["train"]
    if task.max_train_windows is not None and task.max_train_windows < len(train):
        train = train.shuffle(seed=seed).select(range(task.max_train_windows))
    unseen = concatenate_datasets([splits[name] for name in task.evaluate_on if name in splits])
    return train, unseen, splits


def load_splits(task: TaskArguments, extractor: NeurIPTFeatureExtractor) -> DatasetDict:
    """The windows of every split that the task's recordings have."""
    return load_recordings(
        task.data,
        extractor,
        rows=_rows(task),
        label_column=task.label_column,
        events=_events(task),
        event_offset_seconds=task.event_offset_seconds,
        split_column=task.split_column,
        split_shares=SPLIT_SHARES,
        split_seed=SPLIT_SEED,
        within_subject=task.within_subject,
    )


def _rows(task: TaskArguments) -> dict[str, str] | None:
    return dict(row.split("=", 1) for row in task.rows) or None


def _events(task: TaskArguments) -> dict[str, str] | None:
    """Annotation -> class."""
    pairs = (event.partition("=") for event in task.events)
    return {annotation: name or annotation for annotation, _, name in pairs} or None


def task_table(task: TaskArguments) -> pd.DataFrame:
    """
    The task's recordings without opening them: a row for each, with `file`, `subject`, `split`, what the manifest says
    of it, and `dataset`, empty where nobody names it.
    """
    table = read_table(Path(task.data), _rows(task), task.label_column, _events(task), SUBJECT_PATTERN)
    table = assign_splits(table, task.split_column, SPLIT_SHARES, SPLIT_SEED, task.within_subject)
    column = next((name for name in DATASET_COLUMNS if name in table), None)
    table["dataset"] = task.dataset or (table[column] if column else "")
    return table


def refuse_seen(task: TaskArguments, checkpoint: str | None) -> list[str]:
    """
    The people to be scored whom a checkpoint's weights have seen: empty, unless the task allows them. Comes before any
    recording is opened.

    Raises:
        ValueError: where there are such people and the task does not allow them; they are named.
    """
    if checkpoint is None:
        return []
    record = read_training_record(checkpoint)
    if record is None:
        logger.warning_once(f"{checkpoint} has no training.json: nobody knows whom the weights have seen.")
    table = task_table(task)
    table = table[table["split"].isin({SPLIT_NAMES[name] for name in task.evaluate_on})]
    people = table["subject"].where(table["dataset"] == "", table["dataset"] + "/" + table["subject"])
    return refuse_seen_people(record, people, allow=task.allow_seen_people)


def seen_in_training(
    task: TaskArguments, train: Dataset, extractor: NeurIPTFeatureExtractor
) -> tuple[list[SeenDataset], list[str]]:
    """
    Whom a training on these windows sees: its data sets, and its people as `dataset/person`. A data set that nobody
    names is called after its folder, as `prepare_dataset` does.
    """
    table = task_table(task).set_index("file")
    source = Path(task.data).resolve()
    table["dataset"] = table["dataset"].replace("", (source if source.is_dir() else source.parent).name)
    table["subject"] = table["dataset"] + "/" + table["subject"]
    windows = table.loc[list(train["recording"])]
    seconds = task.window_seconds or extractor.window_seconds
    datasets = []
    for name, part in windows.groupby("dataset"):
        origin = {
            column: "; ".join(sorted(part[column].unique())) for column in ("licence", "source") if column in part
        }
        hours = round(len(part) * seconds / 3600, 3)
        datasets.append(SeenDataset(name, part["subject"].nunique(), len(part), hours, **origin))
    return datasets, sorted(windows["subject"].unique())


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


@dataclass
class AccuracyOverPeople:
    """
    Balanced accuracy, or the difference of two, with what its interval over people is made of.

    Args:
        value: of all windows together.
        by_person: of each person's windows.
        draws: of all windows of people drawn with replacement, `[resamples]`. Of the same people the same are drawn
            each time, so that methods can be compared draw by draw.
    """

    value: float
    by_person: dict[str, float]
    draws: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, dataset: Dataset, resamples: int = 2000) -> "AccuracyOverPeople":
        """From scores of the classes `[windows, classes]`; classes that nobody drawn has do not count."""
        labels = np.asarray(dataset["labels"])
        people, person = np.unique(np.asarray(dataset["subject"]), return_inverse=True)
        correct, total = np.zeros((2, len(people), scores.shape[1]))
        np.add.at(total, (person, labels), 1)
        np.add.at(correct, (person, labels), scores.argmax(axis=1) == labels)
        rng = np.random.default_rng(crc32(",".join(people).encode()))
        times = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=resamples)
        by_person = dict(zip(people.tolist(), _mean_recall(correct, total).tolist(), strict=True))
        value = float(_mean_recall(correct.sum(axis=0), total.sum(axis=0)))
        return cls(value, by_person, _mean_recall(times @ correct, times @ total))

    @classmethod
    def mean(cls, parts: Sequence["AccuracyOverPeople"]) -> "AccuracyOverPeople":
        """Of several methods on the same people, or, over all that they scored together, of several tasks."""
        people = set.intersection(*(set(part.by_person) for part in parts))
        by_person = {name: float(np.mean([part.by_person[name] for part in parts])) for name in sorted(people)}
        return cls(
            float(np.mean([part.value for part in parts])), by_person, np.mean([part.draws for part in parts], axis=0)
        )

    def __sub__(self, other: "AccuracyOverPeople") -> "AccuracyOverPeople":
        by_person = {name: value - other.by_person[name] for name, value in self.by_person.items()}
        return AccuracyOverPeople(self.value - other.value, by_person, self.draws - other.draws)

    @property
    def interval(self) -> list[float]:
        """95 % over people: how it might have come out with others."""
        return np.quantile(self.draws, [0.025, 0.975]).tolist()

    def to_dict(self) -> dict:
        return {"value": self.value, "interval": self.interval, "by_person": self.by_person}


def signed(difference: dict) -> str:
    """A difference with its interval, from `to_dict`: `+0.012 (-0.034 to +0.058)`."""
    low, high = difference["interval"]
    return f"{difference['value']:+.3f} ({low:+.3f} to {high:+.3f})"


def _mean_recall(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Balanced accuracy from counts `[..., classes]`, of the classes that are there."""
    recalls = np.divide(correct, total, out=np.zeros(correct.shape), where=total > 0)
    return recalls.sum(axis=-1) / (total > 0).sum(axis=-1)


def baseline_scores(
    task: TaskArguments, train: Dataset, unseen: Dataset, extractor: NeurIPTFeatureExtractor
) -> dict | None:
    """The task's other method, fitted and scored on the same windows as the model."""
    if task.baseline == "none":
        return None
    rate = extractor.sampling_rate
    if task.baseline == "band_power":
        method = band_power_baseline(rate)
    elif task.baseline == "tangent_space":
        method = tangent_space_baseline(rate, task.baseline_frequencies)
    elif task.baseline == "eegnet":
        method = EEGNetClassifier(rate)
    else:
        raise ValueError(f"baseline must be band_power, tangent_space, eegnet or none, but is {task.baseline!r}.")
    method.fit(signals_in_microvolt(train, extractor), np.asarray(train["labels"]))
    return scores_of(class_scores(method, signals_in_microvolt(unseen, extractor)), unseen)


def new_config(size: str, train: Dataset, extractor: NeurIPTFeatureExtractor, **overrides) -> NeurIPTConfig:
    """A configuration of the named size for the task's classes and the extractor's lobes."""
    names = train.features["labels"].names
    return getattr(NeurIPTConfig, size)(
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        num_lobes=extractor.num_lobes,
        **overrides,
    )


def weights_of(checkpoint: str) -> dict:
    """Which weights these are: the hash of the file, and how long they were trained."""
    file = Path(checkpoint) / "model.safetensors"
    record = read_training_record(checkpoint)
    stages = record.stages if record else []
    return {
        "checkpoint": checkpoint,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None,
        "steps": sum(stage.steps for stage in stages),
        "windows_seen": sum(stage.windows_seen for stage in stages),
        "training_seconds": sum(stage.seconds for stage in stages),
    }


def provenance() -> dict:
    """What is needed to get numbers again: command, commit, threads and versions."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "commit": commit.stdout.strip() or None,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers", "datasets", "mne", "scikit-learn")},
    }


def write_results(folder: str, results: dict, task: TaskArguments, seed: int) -> None:
    """`results.json`: the numbers with all that is needed to get them again."""
    write_json(
        Path(folder) / "results.json", results | {"provenance": provenance() | {"seed": seed, "task": asdict(task)}}
    )


def write_json(path: Path, content: dict) -> None:
    """A file that is there in whole or not at all; a list of numbers takes one line."""
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), json.dumps(content, indent=2))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(text + "\n")
    partial.replace(path)


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
