"""What `Trainer` lacks for NeurIPT, and nothing else."""

from collections import defaultdict
from contextlib import contextmanager
from copy import deepcopy

import torch
from transformers import Trainer, TrainerCallback

from .data_collator import DataCollatorForEEG


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
    `Trainer` with five additions:

    - batches of mixed montages by default ([`DataCollatorForEEG`]; `Trainer` itself would take a collator for text as
      soon as it is given the feature extractor as `processing_class`);
    - the parts of the loss in the log, beside the loss that contains them: the experts' auxiliary loss, and in
      pre-training the error of the reconstruction and of the spectral target;
    - a new epoch reaches data and collators that draw at random (those with `set_epoch`), so that masks differ from
      epoch to epoch and come back the same after a resume;
    - evaluations have the masks of epoch 0 whenever they come, so that a curve shows what was learned and not what was
      hidden, and runs of different length can be compared;
    - each of several processes reads its own part of a stream: accelerate would let the first one read for all and cut
      its batches by the shapes of one of them, which mixed montages do not share.

    All arguments are those of `transformers.Trainer`.
    """

    def __init__(self, *args, data_collator=None, **kwargs):
        super().__init__(*args, data_collator=data_collator or DataCollatorForEEG(), **kwargs)
        self._loss_parts: dict[str, list[torch.Tensor]] = defaultdict(list)
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

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        for prefix in ("", "eval_"):
            for name in LOSS_PARTS if f"{prefix}loss" in logs else ():
                if parts := self._loss_parts.pop(prefix + name, None):
                    logs[prefix + name] = round(torch.stack(parts).mean().item(), 6)
        super().log(logs, *args, **kwargs)


__all__ = ["NeurIPTTrainer"]
