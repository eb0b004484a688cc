"""What `Trainer` lacks for NeurIPT, and nothing else."""

import math
from collections import defaultdict
from contextlib import contextmanager
from copy import deepcopy

import torch
from transformers import Trainer, TrainerCallback
from transformers.utils import logging

from ..data.collator import DataCollatorForEEG


logger = logging.get_logger(__name__)

# Steps in a row without a finite gradient, after which a training has no use.
MOST_STEPS_LEFT_OUT = 10
LOSS_PARTS = ("reconstruction_loss", "spectral_loss", "course_loss", "aux_loss")


class _SetEpoch(TrainerCallback):
    """Tells data and collator, which draw at random, which epoch begins, before its batches are made."""

    def __init__(self, drawing: list):
        self.drawing = drawing

    def on_epoch_begin(self, args, state, control, **kwargs):
        for thing in self.drawing:
            thing.set_epoch(int(state.epoch or 0))


class NeurIPTTrainer(Trainer):
    """
    `Trainer` with six additions:

    - batches of mixed montages by default ([`DataCollatorForEEG`]; `Trainer` itself would take a collator for text as
      soon as it is given the feature extractor as `processing_class`);
    - the parts of the loss in the log, beside the loss that contains them: the experts' auxiliary loss, and in
      pre-training the error of the reconstruction and of the spectral target;
    - a new epoch reaches data and collators that draw at random (those with `set_epoch`), so that masks differ from
      epoch to epoch and come back the same after a resume;
    - evaluations have the masks of epoch 0 whenever they come, so that a curve shows what was learned and not what was
      hidden, and runs of different length can be compared;
    - a step whose gradient is not finite changes no weight and is warned of, where `Trainer` would spoil all of them
      and go on with a loss that is logged as 0; after ten of them in a row training ends with an error;
    - each of several processes reads its own part of a stream: accelerate would let the first one read for all and cut
      its batches by the shapes of one of them, which mixed montages do not share.

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
        """Loaders get a collator of their own: workers may make batches of training during an evaluation."""
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
        """`Trainer` asks for it between clipping and the optimizer's step, which passes over gradients of `None`."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if math.isfinite(float(norm)) or self.accelerator.scaler is not None:  # in float16 the scaler looks after it
            self._steps_left_out = 0
            return norm
        self._steps_left_out += 1
        step = self.state.global_step + 1
        if self._steps_left_out == MOST_STEPS_LEFT_OUT:
            raise FloatingPointError(
                f"The gradient was not finite in {MOST_STEPS_LEFT_OUT} steps in a row, up to step {step}; the weights "
                "are those from before. Lower the learning rate, look for values in the data that are not finite, or "
                "train in float32 if this was bfloat16."
            )
        logger.warning(f"Step {step} is left out: its gradient is not finite ({norm}).")
        model.zero_grad()
        return norm

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        for prefix in ("", "eval_"):
            for name in LOSS_PARTS if f"{prefix}loss" in logs else ():
                if parts := self._loss_parts.pop(prefix + name, None):
                    logs[prefix + name] = round(torch.stack(parts).mean().item(), 6)
        super().log(logs, *args, **kwargs)


__all__ = ["NeurIPTTrainer"]
