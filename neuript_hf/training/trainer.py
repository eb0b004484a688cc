"""`Trainer` with what NeurIPT needs beyond it."""

import math
from collections import defaultdict
from contextlib import contextmanager
from copy import deepcopy

import torch
from transformers import Trainer, TrainerCallback
from transformers.utils import logging

from ..data.collator import DataCollatorForEEG


logger = logging.get_logger(__name__)

# After this many steps in a row without a finite gradient, training ends.
MOST_STEPS_LEFT_OUT = 10
LOSS_PARTS = ("reconstruction_loss", "spectral_loss", "time_course_loss", "aux_loss")


class _SetEpoch(TrainerCallback):
    """Passes the epoch to data and collators that draw at random, before its batches are made."""

    def __init__(self, drawing: list):
        self.drawing = drawing

    def on_epoch_begin(self, args, state, control, **kwargs):
        for thing in self.drawing:
            thing.set_epoch(int(state.epoch or 0))


class NeurIPTTrainer(Trainer):
    """
    `Trainer` with six additions:

    - [`DataCollatorForEEG`] by default, which takes mixed montages. (With the feature extractor as `processing_class`,
      `Trainer` would choose a collator for text.)
    - The parts of the loss are logged as well: the experts' auxiliary loss and, in pre-training, the errors of the
      reconstruction and of the other targets.
    - Data and collators that draw at random (those with `set_epoch`) learn which epoch it is, so that masks differ
      from epoch to epoch and are the same after a resume.
    - Evaluations always use the masks of epoch 0, so that a curve shows what was learned and not what was hidden, and
      runs of different lengths can be compared.
    - A step without a finite gradient is skipped with a warning; `Trainer` would set all weights to NaN and log a loss
      of 0. After ten such steps in a row training ends with an error.
    - Each of several processes reads its own part of a stream. By default, accelerate lets the first process read for
      all and splits its batches, which have different shapes for different montages.

    All arguments are those of `transformers.Trainer`.

    Raises:
        FloatingPointError: in training, after ten steps in a row without a finite gradient.
    """

    def __init__(self, *args, data_collator=None, **kwargs):
        super().__init__(*args, data_collator=data_collator or DataCollatorForEEG(), **kwargs)
        self._loss_parts: dict[str, list[torch.Tensor]] = defaultdict(list)
        self._steps_left_out = 0  # in a row
        if self.accelerator.dataloader_config.dispatch_batches is None:
            self.accelerator.dataloader_config.dispatch_batches = False
        drawing = [thing for thing in (self.train_dataset, self.data_collator) if hasattr(thing, "set_epoch")]
        if drawing:
            self.add_callback(_SetEpoch(drawing))

    def get_eval_dataloader(self, *args, **kwargs):
        with self._masks_of_epoch_0():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args, **kwargs):
        with self._masks_of_epoch_0():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _masks_of_epoch_0(self):
        """Loaders get their own copy of the collator: workers may prepare training batches during an evaluation."""
        collator = self.data_collator
        if hasattr(collator, "set_epoch"):
            self.data_collator = deepcopy(collator)
            self.data_collator.set_epoch(0)
        try:
            yield
        finally:
            self.data_collator = collator

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        prefix = "" if model.training else "eval_"
        for name in LOSS_PARTS:
            if (part := getattr(outputs, name, None)) is not None:
                self._loss_parts[prefix + name].append(part.detach().mean())
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model, grad_norm=None):
        """`Trainer` calls it between clipping and the optimizer's step, which ignores gradients of `None`."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if math.isfinite(float(norm)) or self.accelerator.scaler is not None:  # with float16 the scaler handles it
            self._steps_left_out = 0
            return norm
        self._steps_left_out += 1
        step = self.state.global_step + 1
        if self._steps_left_out == MOST_STEPS_LEFT_OUT:
            raise FloatingPointError(
                f"The gradient was not finite in {MOST_STEPS_LEFT_OUT} steps in a row, up to step {step}; the weights "
                "are as before. Lower the learning rate, check the data for values that are not finite, or "
                "train in float32 if this was bfloat16."
            )
        logger.warning(f"Step {step} is skipped: its gradient is not finite ({norm}).")
        model.zero_grad()
        return norm

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        for prefix in ("", "eval_"):
            for name in LOSS_PARTS if f"{prefix}loss" in logs else ():
                if parts := self._loss_parts.pop(prefix + name, None):
                    logs[prefix + name] = round(torch.stack(parts).mean().item(), 6)
        super().log(logs, *args, **kwargs)


__all__ = ["NeurIPTTrainer"]
