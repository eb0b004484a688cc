"""What `Trainer` lacks for NeurIPT, and nothing else."""

import torch
from transformers import Trainer, TrainerCallback

from .data_collator import DataCollatorForEEG


class _SetEpoch(TrainerCallback):
    """Tells a masking collator which epoch begins, before its batches are made."""

    def __init__(self, collator):
        self.collator = collator

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.collator.set_epoch(int(state.epoch or 0))


class NeurIPTTrainer(Trainer):
    """
    `Trainer` with four additions:

    - batches of mixed montages by default ([`DataCollatorForEEG`]; `Trainer` itself would take a collator for text as
      soon as it is given the feature extractor as `processing_class`);
    - the experts' auxiliary loss in the log, beside the loss that contains it;
    - a new epoch reaches a masking collator, so that masks differ from epoch to epoch and come back the same after a
      resume;
    - each of several processes reads its own part of a stream: accelerate would let the first one read for all and cut
      its batches by the shapes of one of them, which mixed montages do not share.

    All arguments are those of `transformers.Trainer`.
    """

    def __init__(self, *args, data_collator=None, **kwargs):
        super().__init__(*args, data_collator=data_collator or DataCollatorForEEG(), **kwargs)
        self._aux_losses: list[torch.Tensor] = []
        if self.accelerator.dataloader_config.dispatch_batches is None:
            self.accelerator.dataloader_config.dispatch_batches = False
        if hasattr(self.data_collator, "set_epoch"):
            self.add_callback(_SetEpoch(self.data_collator))

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training and outputs.aux_loss is not None:
            self._aux_losses.append(outputs.aux_loss.detach().mean())
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs and self._aux_losses:
            logs["aux_loss"] = round(torch.stack(self._aux_losses).mean().item(), 6)
            self._aux_losses.clear()
        super().log(logs, *args, **kwargs)


__all__ = ["NeurIPTTrainer"]
