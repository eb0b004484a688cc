"""
What weights have seen: `training.json` in a checkpoint folder, and the refusal to test on people they were trained on.

People are named `dataset/person`, for example `eegmat/03`, as [`prepare_dataset`] names them, since person 01 of one
data set is not person 01 of another.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from transformers import EarlyStoppingCallback, SchedulerType, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import cached_file, logging

from ..data.atomic import write_json
from ..data.fingerprints import fingerprint, recording_courses, same_signal
from ..data.people import dataset_key, full_name, person_key
from ..data.shards import read_outcomes, read_settings
from ..data.tasks import TaskArguments, task_table
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..history import RECORD_FILE, join_records, read_record
from .benchmarks import BENCHMARK_OVERLAPS, SAME_RECORDINGS
from .provenance import machine_name, provenance


logger = logging.get_logger(__name__)

ADAPTER_FILE = "adapter_config.json"  # PEFT's


@dataclass
class SeenDataset:
    """
    One data set of a training.

    Args:
        name: the first part of its people's names.
        people, windows: how many of each were trained on.
        hours: total length of these windows.
        licence, source: its terms and where it comes from, or `"unknown"`.
    """

    name: str
    people: int
    windows: int
    hours: float
    licence: str = "unknown"
    source: str = "unknown"


@dataclass
class TrainingStage:
    """
    One training, from the weights it started with to those it ended with.

    Args:
        kind: `"pre-training"`, or what the weights were fine-tuned for.
        datasets: where the windows came from.
        subjects: everyone whose windows were trained on, as `dataset/person`.
        steps: optimizer steps.
        windows_seen: windows that went through the model, counted every time.
        seconds: training time, including all resumed parts.
        threads: CPU threads.
        machine: CPU or accelerator, see [`machine_name`].
        commit: version of the code, or `None` if unknown.
        command: the command that was run.
        seeds: seeds of weights, order and masks.
        recipe: the settings that determine the result.
        chosen_on: everyone on whose windows something was chosen, such as the best checkpoint, as `dataset/person`.
    """

    kind: str
    datasets: list[SeenDataset]
    subjects: list[str]
    steps: int
    windows_seen: int
    seconds: float
    threads: int
    machine: str
    commit: str | None
    command: str
    seeds: list[int]
    recipe: dict[str, Any] = field(default_factory=dict)
    chosen_on: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        trainer: Trainer,
        kind: str,
        seen: tuple[list[SeenDataset], list[str]],
        windows_seen: int,
        seconds: float,
        recipe: Mapping[str, Any],
    ) -> "TrainingStage":
        """
        The stage of a trainer. `seen` is what [`seen_in_training`] or [`seen_in_shards`] returns. If the trainer
        chooses something by its evaluations, the people of its evaluation sets are noted as well.
        """
        origin = provenance()
        choices = choices_on_validation(trainer.args, trainer.callback_handler.callbacks)
        return cls(
            kind=kind,
            datasets=seen[0],
            subjects=seen[1],
            steps=trainer.state.global_step,
            windows_seen=windows_seen,
            seconds=seconds,
            threads=origin["threads"],
            machine=machine_name(trainer.args.device),
            commit=origin["commit"],
            command=origin["command"],
            seeds=[trainer.args.seed],
            recipe=dict(recipe),
            chosen_on=_people_of_evaluation(trainer, *seen) if choices else [],
        )


@dataclass
class TrainingRecord:
    """
    Every training that weights went through, in order: fine-tuning comes after pre-training.

    Args:
        stages: the trainings; none are those of random weights, which have seen nobody.
        gaps: sentences on what is not known. With a gap, a person who is not named may have been seen all the same.
        fingerprints: person, as in `subjects` -> the fingerprints of the recordings that were trained on
            (`neuript_hf/data/fingerprints.py`), which find them under other names.
    """

    stages: list[TrainingStage] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    fingerprints: dict[str, list[str]] = field(default_factory=dict)

    @property
    def subjects(self) -> list[str]:
        """Everyone the weights have seen, as `dataset/person`, sorted."""
        return sorted({subject for stage in self.stages for subject in stage.subjects})

    @property
    def complete(self) -> bool:
        """Whether these are all trainings. Otherwise nobody may be called unseen."""
        return not self.gaps

    @property
    def chosen_on(self) -> list[str]:
        """Everyone on whom something was chosen, as `dataset/person`, sorted."""
        return sorted({subject for stage in self.stages for subject in stage.chosen_on})

    @property
    def dataset_names(self) -> list[str]:
        """Every data set that the weights have seen something of, sorted."""
        return sorted({dataset.name for stage in self.stages for dataset in stage.datasets})


def read_training_record(checkpoint: str | Path) -> TrainingRecord | None:
    """
    The record in a checkpoint folder. `None` if there is none; then it is unknown whom the weights have seen. An
    adapter without a record of its own has seen the people of its base, and others that nobody knows.

    Args:
        checkpoint: a folder, or a repository on the Hub.

    Raises:
        OSError: if there is no such checkpoint.
        ValueError: if the file is not such a record.
    """
    content = read_record(checkpoint)
    adapter = cached_file(str(checkpoint), ADAPTER_FILE, _raise_exceptions_for_missing_entries=False)
    if content is None and adapter is not None:
        base = json.loads(Path(adapter).read_text(encoding="utf-8")).get("base_model_name_or_path")
        content = join_records([read_record(base) if base else None, None])
    return None if content is None else record_of(content)


def record_of(content: Mapping[str, Any]) -> TrainingRecord:
    """
    The record that a model carries as `model.training_record`, or that was read from `training.json`.

    Raises:
        ValueError: if the content is not such a record.
    """
    try:
        stages = [
            TrainingStage(**stage | {"datasets": [SeenDataset(**dataset) for dataset in stage["datasets"]]})
            for stage in content["stages"]
        ]
    except (KeyError, TypeError) as error:
        expected = ", ".join(entry.name for entry in fields(TrainingStage))
        raise ValueError(
            f"{content} is not a training record ({error!r}). Expected a list `stages` whose entries have {expected}."
        ) from error
    return TrainingRecord(stages, content.get("gaps", []), content.get("fingerprints", {}))


def write_training_record(folder: str | Path, record: TrainingRecord) -> Path:
    """Writes `training.json` into a checkpoint folder and returns its path."""
    path = Path(folder) / RECORD_FILE
    write_json(path, {name: part for name, part in asdict(record).items() if part or name == "stages"})
    return path


def choices_on_validation(training: TrainingArguments, callbacks: Iterable[TrainerCallback] = ()) -> list[str]:
    """What a training chooses by its evaluations: the people of its evaluation sets are then not unseen."""
    choices = {
        "load_best_model_at_end": training.load_best_model_at_end,
        "reduce_lr_on_plateau": training.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU,
        "early stopping": any(isinstance(callback, EarlyStoppingCallback) for callback in callbacks),
    }
    return [name for name, chosen in choices.items() if chosen]


def _people_of_evaluation(trainer: Trainer, datasets: Sequence[SeenDataset], seen: Sequence[str]) -> list[str]:
    """People of the trainer's evaluation sets, with the data set of its training where that is clear."""
    evaluated = trainer.eval_dataset if isinstance(trainer.eval_dataset, Mapping) else {"": trainer.eval_dataset}
    parts = [part for part in evaluated.values() if "subject" in (getattr(part, "column_names", None) or ())]
    name = datasets[0].name if len(datasets) == 1 and all(_parts(subject)[0] for subject in seen) else ""
    return sorted({full_name(name, subject) for part in parts for subject in part["subject"]})


def weights_of(checkpoint: str) -> dict:
    """
    Identifies weights in a result file: the hash of `model.safetensors`, how long they were trained, and whether their
    `history` is `"known"` or `"unknown"`, so that nobody may be called unseen.
    """
    file = Path(checkpoint) / "model.safetensors"
    record = read_training_record(checkpoint)
    stages = record.stages if record else []
    return {
        "checkpoint": checkpoint,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None,
        "steps": sum(stage.steps for stage in stages),
        "windows_seen": sum(stage.windows_seen for stage in stages),
        "training_seconds": sum(stage.seconds for stage in stages),
        "history": "known" if history_known(record) else "unknown",
    }


def seen_in_shards(
    folders: Sequence[str | Path], split: str = "train", origins: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[list[SeenDataset], list[str]]:
    """
    Whom a training on prepared data sees.

    Args:
        folders: folders that [`prepare_dataset`] wrote. A data set that is in several of them is counted once.
        split: the split that is trained on.
        origins: data set -> its `licence` and `source`.

    Returns:
        The data sets, and the people who have windows, as `dataset/person`; both sorted.
    """
    windows, hours, people = {}, {}, {}
    for folder in folders:
        window_hours = read_settings(folder)["extractor"]["window_seconds"] / 3600
        for outcome in read_outcomes(folder):
            if outcome.split != split or not outcome.windows_kept:
                continue
            name = _parts(outcome.subject)[0]
            windows[name] = windows.get(name, 0) + outcome.windows_kept
            hours[name] = hours.get(name, 0.0) + outcome.windows_kept * window_hours
            people.setdefault(name, set()).add(outcome.subject)
    datasets = [
        SeenDataset(name, len(people[name]), windows[name], round(hours[name], 3), **(origins or {}).get(name, {}))
        for name in sorted(windows)
    ]
    return datasets, sorted(set().union(*people.values()))


def seen_in_training(
    task: TaskArguments, train: Dataset, extractor: NeurIPTFeatureExtractor
) -> tuple[list[SeenDataset], list[str]]:
    """
    The data sets and people of a training on a task's windows, as [`seen_in_shards`] returns them. A data set without
    a name is called after its folder, as in `prepare_dataset`.
    """
    table = task_table(task).drop_duplicates("recording").set_index("recording")
    table["dataset"] = table["dataset"].replace("", folder_name(task))
    table["subject"] = [full_name(*names) for names in zip(table["dataset"], table["subject"], strict=True)]
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


def fingerprints_in_shards(folders: Sequence[str | Path], split: str = "train") -> dict[str, list[str]]:
    """The fingerprints of the recordings whose people [`seen_in_shards`] returns, by person."""
    found = defaultdict(list)
    for folder in folders:
        for outcome in read_outcomes(folder):
            if outcome.split == split and outcome.windows_kept and outcome.fingerprint not in found[outcome.subject]:
                found[outcome.subject].append(outcome.fingerprint)
    return {person: texts for person in sorted(found) if (texts := [text for text in found[person] if text])}


def fingerprints_in_training(task: TaskArguments, train: Dataset) -> dict[str, list[str]]:
    """The fingerprints of the recordings whose people [`seen_in_training`] returns, by person."""
    table = task_table(task)
    names = table["dataset"].replace("", folder_name(task))
    people = [full_name(*name) for name in zip(names, table["subject"], strict=True)]
    used, found = set(train["recording"]), defaultdict(list)
    for recording, person, course in zip(table["recording"], people, recording_courses(table), strict=True):
        if recording in used and (text := fingerprint(course)) and text not in found[person]:
            found[person].append(text)
    return dict(sorted(found.items()))


def seen_people(record: TrainingRecord | None, subjects: Iterable[str], dataset: str | None = None) -> list[str]:
    """
    Those of `subjects` whom the weights have seen, or on whom something was chosen for them, sorted, under the names
    that the record has.

    Args:
        record: the record of the weights. Without one, nobody counts as seen, and nobody as unseen.
        subjects: people, as `dataset/person`, or as their data set names them.
        dataset: the data set of people who are named without one. If it is `None`, such a person counts as seen if
            anyone of that name was seen, in any data set.

    Spelling makes no difference, see [`person_key`], nor which of its names a public data set has.
    """
    return sorted(set().union(*names_in_record(record, subjects, dataset).values()))


def names_in_record(
    record: TrainingRecord | None, subjects: Iterable[str], dataset: str | None = None
) -> dict[str, list[str]]:
    """Each of `subjects` whom [`seen_people`] finds -> the names that the record has for this person."""
    in_set, without_set, in_any = defaultdict(set), defaultdict(set), defaultdict(set)
    for subject in {*record.subjects, *record.chosen_on} if record else ():
        name, person = _parts(subject)
        in_any[person_key(person)].add(subject)
        if name is None:
            without_set[person_key(person)].add(subject)
        else:
            in_set[_one_name(name), person_key(person, name)].add(subject)
    found = {}
    for subject in subjects:
        name, person = _parts(subject)
        name = name or dataset
        if name is None:
            names = in_any[person_key(person)]
        else:
            keys = {person_key(person), person_key(person, name)}
            names = in_set[_one_name(name), person_key(person, name)].union(*(without_set[key] for key in keys))
        if names:
            found[subject] = sorted(names)
    return found


def people_seen_before(
    task: TaskArguments, record: TrainingRecord | None, table: pd.DataFrame
) -> dict[str, list[str]]:
    """
    The people of some rows of [`task_table`] whom the weights have seen -> their names in the record. People of a data
    set without a name are looked up by their own name in all data sets, and in the one that is called as their folder.
    Recordings of all others are compared with those that were trained on.
    """
    named = _seen_by_name(task, record, table)
    return named | _seen_by_signal(task, record, table[~table["subject"].isin(list(named))])


def _seen_by_name(task: TaskArguments, record: TrainingRecord | None, table: pd.DataFrame) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for dataset, rows in table.groupby("dataset"):
        for name in [dataset] if dataset else [None, folder_name(task)]:
            for person, names in names_in_record(record, rows["subject"].unique(), name).items():
                found[person].update(names)
    return {person: sorted(names) for person, names in found.items()}


def _seen_by_signal(task: TaskArguments, record: TrainingRecord | None, table: pd.DataFrame) -> dict[str, list[str]]:
    if record is None or not record.fingerprints:
        return {}
    everyone = task_table(task)  # in one order, so that courses are computed once
    courses = dict(zip(everyone["recording"], recording_courses(everyone), strict=True))
    found: dict[str, set[str]] = defaultdict(set)
    for person, rows in table.groupby("subject"):
        for recording in rows["recording"]:
            found[person].update(same_signal(courses[recording], record.fingerprints))
    return {person: sorted(names) for person, names in found.items() if names}


def refuse_seen(task: TaskArguments, checkpoint: str | None) -> list[str]:
    """
    Refuses to score a checkpoint on people it was trained on, or on whom something was chosen for it: by their names,
    and by their recordings, which are read where the record has fingerprints.

    Returns:
        The people to be scored that the weights have seen; empty unless the task allows them.

    Raises:
        ValueError: if there are such people and the task does not allow them. It names all of them, as the record and
            as the task calls them.
    """
    if checkpoint is None:
        return []
    record = read_training_record(checkpoint)
    if not history_known(record):
        logger.warning_once(f"{checkpoint} is of unknown history: nobody knows whom else the weights have seen.")
    elif record.subjects and not record.fingerprints:
        logger.warning_once(
            f"The record of {checkpoint} has no fingerprints, so people under other names are not recognised."
        )
    table = task_table(task)
    tested = table[table["split"].isin(task.evaluate_on)]
    named = _seen_by_name(task, record, tested)
    same = _seen_by_signal(task, record, tested[~tested["subject"].isin(list(named))])
    found = named | same
    seen = sorted(set().union(*found.values()))
    if seen and not task.allow_seen_people:
        known = [
            ", ".join(names) + ("" if person in [_parts(name)[1] for name in names] else f" (here {person})")
            for person, names in sorted(found.items(), key=lambda item: item[1])
        ]
        chosen = sorted(set(seen) - set(record.subjects))
        raise ValueError(
            f"Some of the tested people are people that the weights have seen: {', '.join(known)}. A score on them "
            "says nothing about new people. "
            + (f"On {', '.join(chosen)} the best checkpoint or something else was chosen. " if chosen else "")
            + "Leave them out, or test them anyway with allow_seen_people=True."
            + (
                f" By name: {', '.join(sorted(named))}. If these are other people of the same name, name the data set "
                "that they belong to, in a column `dataset` of the manifest or as the argument dataset."
                if named
                else ""
            )
            + (
                f" By signal: {', '.join(sorted(same))}. Recordings of theirs are the same as those that the weights "
                "were trained on, whatever the people are called here."
                if same
                else ""
            )
        )
    return seen


def history_known(record: TrainingRecord | None) -> bool:
    """Whether weights have a record, and one that is complete. Otherwise their history is unknown."""
    return record is not None and record.complete


def folder_name(task: TaskArguments) -> str:
    """What a data set without a name is called: as its folder, as in `prepare_dataset`."""
    source = Path(task.data).resolve()
    return (source if source.is_dir() else source.parent).name


def _parts(subject: str) -> tuple[str | None, str]:
    """Data set (`None` if not named) and person."""
    name, _, person = subject.rpartition("/")
    return name or None, person


def _one_name(dataset: str) -> str:
    """One key for the names of a data set: its spellings, and the others that the same public recordings have."""
    key = dataset_key(dataset)
    for overlap in BENCHMARK_OVERLAPS:
        if overlap.relation == SAME_RECORDINGS and key in (names := [dataset_key(name) for name in overlap.datasets]):
            return names[0]
    return key


__all__ = [
    "SeenDataset",
    "TrainingRecord",
    "TrainingStage",
    "choices_on_validation",
    "history_known",
    "fingerprints_in_shards",
    "fingerprints_in_training",
    "names_in_record",
    "people_seen_before",
    "read_training_record",
    "refuse_seen",
    "seen_in_shards",
    "seen_in_training",
    "seen_people",
    "weights_of",
    "write_training_record",
]
