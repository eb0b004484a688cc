"""Keeps the training record of a model while it is trained, so that all that saves it writes whom it has seen."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import Trainer, TrainerCallback
from transformers.utils import logging

from ..connectivity import SAMPLING_RATE
from ..data.people import full_name
from ..history import WeightsHistory, join_records, read_record
from ..link_safe_saving import complete_folder
from .adapters import base_model_of, has_adapters
from .provenance import machine_name, provenance
from .training_record import SeenDataset, TrainingStage


logger = logging.get_logger(__name__)

UNNAMED = "The weights were trained on windows that do not say from which person they are."
HEAD_FIT = "linear fit of the head"


class StageRecorder(TrainerCallback):
    """
    Adds a stage to the model's training record when a training begins, and keeps it up to date: the checkpoints on the
    way have it, too. [`NeurIPTTrainer`] has one, as `trainer.recorder`.

    By itself it knows the people whom the training windows name (the column `subject`). A program that knows more says
    so with [`describe`] before it trains.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.described: dict[str, Any] = {}
        self.stage: dict[str, Any] = {}
        self.resumed: dict | None = None
        self.sharded = False  # FSDP and DeepSpeed cut the weights into pieces when a training begins
        self.before = self.model and self.model.training_record
        self.seconds, self.since = 0.0, 0.0

    @property
    def model(self) -> WeightsHistory | None:
        """What keeps the record: the model without adapters around it, or the encoder in a module of another kind."""
        parts = base_model_of(self.trainer.model).modules()
        return next((part for part in parts if isinstance(part, WeightsHistory)), None)

    def describe(
        self,
        kind: str,
        seen: tuple[list[SeenDataset], list[str]],
        recipe: Mapping[str, Any],
        fingerprints: Mapping[str, list[str]] | None = None,
    ) -> None:
        """
        Says what the next training is.

        Args:
            kind: `"pre-training"`, or what the weights are fine-tuned for.
            seen: data sets and people, as `seen_in_training` or `seen_in_shards` return them.
            recipe: the settings that determine the result.
            fingerprints: of the signals that are trained on, by person, as `neuript_hf.data.fingerprints` makes them.
        """
        self.described = {"kind": kind, "seen": seen, "recipe": recipe, "fingerprints": fingerprints}

    def resume(self, checkpoint: str) -> None:
        """Says that the next training goes on from a checkpoint of this or an earlier run."""
        self.resumed = read_record(checkpoint)

    def on_train_begin(self, args, state, control, **kwargs):
        model, gaps = self.model, []
        if model is None:
            return
        self.sharded = self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled
        before, earlier = self.before if self.sharded else model.training_record, {}
        if state.global_step:
            *stages, earlier = (self.resumed or {}).get("stages") or [{}]
            before = self.resumed and self.resumed | {"stages": stages}
        seen = self.described.get("seen") or seen_in_windows(
            self.trainer.train_dataset, getattr(self.trainer.processing_class, "window_seconds", 0.0)
        )
        self.before = before = _without_head_fit(before, seen[1])
        if not seen[1]:
            gaps = [UNNAMED]
        stage = TrainingStage.of(
            self.trainer,
            kind=self.described.get("kind", "training"),
            seen=seen,
            windows_seen=0,
            seconds=0.0,
            recipe=self.described.get("recipe", {}),
        )
        if stage.chosen_on:
            logger.warning(
                f"This training chooses on {len(stage.chosen_on)} people of its evaluation set, who are not unseen: "
                f"{', '.join(stage.chosen_on[:5])}. Score others."
            )
        self.stage = self._joined(earlier, asdict(stage))
        self.seconds, self.since = earlier.get("seconds", 0.0), perf_counter()
        self._count(state)
        news = {"gaps": gaps, "fingerprints": self.described.get("fingerprints")}
        record = join_records([before, {"stages": [self.stage]} | {name: new for name, new in news.items() if new}])
        model.keep_record(record, watched=False)

    def on_step_end(self, args, state, control, **kwargs):
        self._count(state)

    def on_train_end(self, args, state, control, **kwargs):
        self._count(state)
        if (model := self.model) is None:
            return
        # merging adapters changes the weights once more
        model.keep_record(model.training_record, watched=not has_adapters(model) and not self.sharded)

    def on_push_begin(self, args, state, control, **kwargs):
        """`Trainer` copies only the weights of a checkpoint to the folder that it uploads."""
        if self.model and self.trainer.is_world_process_zero():
            self.model.write_record(args.output_dir)
            complete_folder(Path(args.output_dir), repository=self.trainer.hub_model_id)

    def _count(self, state) -> None:
        """How far the training has come."""
        now = perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        self.stage["steps"] = state.global_step
        self.stage["seconds"] = round(self.seconds, 1)
        self.stage["windows_seen"] = self._windows_seen(state)

    def _windows_seen(self, state) -> int:
        """Windows that went through the model, counted every time."""
        trainer = self.trainer
        if hasattr(trainer, "windows_seen"):
            return trainer.windows_seen
        if hasattr(trainer.train_dataset, "__len__"):
            return round((state.epoch or 0) * len(trainer.train_dataset))
        batch = trainer.args.train_batch_size * trainer.args.world_size * trainer.args.gradient_accumulation_steps
        return state.global_step * batch

    @staticmethod
    def _joined(earlier: Mapping[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
        """The stage, with whom it saw before it was interrupted, if that was on other windows."""
        people = {*earlier.get("subjects", []), *stage["subjects"]}
        sets = [dataset for dataset in earlier.get("datasets", []) if dataset not in stage["datasets"]]
        return stage | {"subjects": sorted(people), "datasets": [*sets, *stage["datasets"]]}


def seen_in_windows(windows: Any, window_seconds: float) -> tuple[list[SeenDataset], list[str]]:
    """The people whom windows name, with their data sets, if they name them."""
    columns = getattr(windows, "column_names", None) or []
    if "subject" not in columns or not hasattr(windows, "__len__"):
        return [], []
    people = windows["subject"]
    sets = windows["dataset"] if "dataset" in columns else [""] * len(people)
    names = [full_name(name, str(person)) for name, person in zip(sets, people, strict=True)]
    datasets = []
    for name in sorted(set(sets)):
        part = [person for of, person in zip(sets, names, strict=True) if of == name]
        hours = round(len(part) * window_seconds / 3600, 3)
        datasets.append(SeenDataset(name or "unknown", len(set(part)), len(part), hours))
    return datasets, sorted(set(names))


def record_head_fit(model: WeightsHistory, windows: Dataset, before: dict | None, seed: int) -> None:
    """
    Adds the people of a linear fit to a model's record, once the fit is in its head.

    Args:
        windows: what was fitted.
        before: the record before.
        seed: of the fit.
    """
    seconds = np.shape(windows[0]["input_values"])[-1] / SAMPLING_RATE
    datasets, people = seen_in_windows(windows, seconds)
    origin = provenance()
    stage = TrainingStage(
        kind=HEAD_FIT,
        datasets=datasets,
        subjects=people,
        steps=0,
        windows_seen=len(windows),
        seconds=0.0,
        threads=origin["threads"],
        machine=machine_name(next(model.parameters()).device),
        commit=origin["commit"],
        command=origin["command"],
        seeds=[seed],
    )
    model.keep_record(join_records([before, {"stages": [asdict(stage)]} | ({} if people else {"gaps": [UNNAMED]})]))


def _without_head_fit(record: dict | None, subjects: Collection[str]) -> dict | None:
    """A fit of the head to people who are trained on after it says nothing more."""
    *stages, last = (record or {}).get("stages") or [{}]
    fitted, trained = ({name.rpartition("/")[2] for name in names} for names in (last.get("subjects", []), subjects))
    return record | {"stages": stages} if last.get("kind") == HEAD_FIT and fitted <= trained else record


__all__ = ["StageRecorder", "record_head_fit", "seen_in_windows"]
