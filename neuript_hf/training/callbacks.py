"""What happens in a training of [`NeurIPTTrainer`] when it begins, and before each epoch."""

import numpy as np
import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback

from ..checkpoints.adapters import base_model_of
from ..modeling_neuript import NeurIPTForSequenceClassification


class SetEpoch(TrainerCallback):
    """Passes the epoch to data and collators that draw at random, before its batches are made."""

    def __init__(self, drawing: list):
        self.drawing = drawing

    def on_epoch_begin(self, args, state, control, **kwargs):
        for thing in self.drawing:
            thing.set_epoch(int(state.epoch or 0))


class OneStart(TrainerCallback):
    """
    Where memory runs out, `auto_find_batch_size` starts over with smaller batches, but from the weights as they are.
    That is a start only before the first step.
    """

    def __init__(self):
        self.steps = 0  # of this training

    def on_train_begin(self, args, state, control, **kwargs):
        if args.auto_find_batch_size and self.steps:
            raise RuntimeError(
                f"Memory ran out after step {self.steps}, and auto_find_batch_size would now start over from weights "
                "that are trained already. Start again from the first weights with "
                f"per_device_train_batch_size={state.train_batch_size}."
            )

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1


class BlankUnseenGroups(TrainerCallback):
    """
    Sets the weights of a new head to zero where no training window has a channel in the pooling group, such as a lobe.
    Nothing would train them, and a recording with such channels would be judged by random weights.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        model, windows = base_model_of(self.trainer.model), self.trainer.train_dataset
        if not isinstance(model, NeurIPTForSequenceClassification):
            return
        new = "classifier.weight" in model.untrained_weights or self.trainer.recorder.before == {"stages": []}
        columns = windows.column_names if isinstance(windows, Dataset) else []  # others would have to be read
        if state.global_step or not new:
            return
        if self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled:  # the weights are in pieces by now
            return
        if model.config.pooling != "lobes" or model.config.channel_groups or "lobe_mask" not in columns:
            return
        # the windows of a recording have the same channels
        names = windows["recording"] if "recording" in columns else range(len(windows))
        first = sorted({name: index for index, name in reversed(list(enumerate(names)))}.values())
        masks = windows.select_columns("lobe_mask").select(first)["lobe_mask"]
        seen = torch.stack([torch.as_tensor(np.asarray(mask)).bool().any(dim=0) for mask in masks]).any(dim=0)
        untrained = model.untrained_weights
        model.blank_groups(~seen)
        model.keep_untrained(untrained)  # this was no training


__all__ = ["BlankUnseenGroups", "OneStart", "SetEpoch"]
