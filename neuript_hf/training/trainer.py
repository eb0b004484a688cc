"""`Trainer` with what NeurIPT needs beyond it."""

import inspect
import math
import re
from collections.abc import Mapping, Sized
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer
from transformers.trainer_pt_utils import find_batch_size
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, has_length
from transformers.utils import logging

from ..checkpoints.adapters import base_model_of, has_adapters
from ..checkpoints.recorder import StageRecorder
from ..checkpoints.saving import save_checkpoint
from ..data.collator import AXES, DataCollatorForEEG, real_samples
from ..data.targets import refuse_other_names, take_names, warn_of_scale
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..history import canonical
from ..link_safe_saving import complete_folder
from ..losses import check_labels, problem_type_of
from ..modeling_neuript import NeurIPTForSequenceClassification, NeurIPTModel
from .arguments import refuse_other_loss, refuse_unsupported
from .batch_metrics import MetricsOfWholeSet
from .callbacks import BlankUnseenGroups, OneStart, SetEpoch


logger = logging.get_logger(__name__)

# After this many steps in a row without a finite gradient, training ends.
MOST_STEPS_LEFT_OUT = 10
LOSS_PARTS = ("reconstruction_loss", "spectral_loss", "time_course_loss", "embedding_loss", "aux_loss")


class _Means:
    """Weighted means by name, of what was added since they were last taken."""

    def __init__(self):
        self.sums: dict[str, tuple[Tensor, float]] = {}  # of weighted values, and of weights

    def add(self, name: str, value: Tensor, weight: float) -> None:
        total, weights = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = total + weight * value, weights + weight

    def take(self) -> dict[str, float]:
        sums, self.sums = self.sums, {}
        return {name: round(float(total) / weights, 6) for name, (total, weights) in sums.items()}


class NeurIPTTrainer(Trainer):
    """
    `Trainer` with these additions:

    - [`DataCollatorForEEG`] by default, which takes mixed montages and names as labels. (With the feature extractor as
      `processing_class`, `Trainer` would choose a collator for text.)
    - The experts' auxiliary loss stays in the loss where `label_smoothing_factor` or `compute_loss_func` replace the
      model's own.
    - The parts of the loss are logged as well: the experts' auxiliary loss, which hardly moves, beside the loss of the
      task (`task_loss`) or, in pre-training, the errors of the reconstruction and of the other targets. Evaluations
      have no auxiliary loss, so `eval_loss` compares with `task_loss`.
    - Accumulated gradients are those of one large batch, also where the batches differ in size: each counts by its
      windows, in pre-training by its selected samples.
    - Data and collators that draw at random (those with `set_epoch`) learn which epoch it is, so that masks differ
      from epoch to epoch and are the same after a resume.
    - Evaluations always use the masks of epoch 0, so that a curve shows what was learned and not what was hidden, and
      runs of different lengths can be compared. They see all windows in the order of the data set, whatever the
      arguments for training say (`dataloader_drop_last`, `train_sampling_strategy`, `dataloader_in_order`).
    - `batch_eval_metrics` takes any `compute_metrics` and gives the same scores.
    - A step without a finite gradient is skipped with a warning; `Trainer` would set all weights to NaN and log a loss
      of 0. After ten such steps in a row training ends with an error.
    - A model whose labels have no names (`LABEL_0`, ...) gets those of the training data set.
    - The model's training record gets a stage for each training, which all checkpoints on the way have, and what is
      saved is a complete folder: feature extractor (the `processing_class`; a warning says if it is missing), code,
      record, card and golden tensors. Adapters are saved beside the weights that they adapt; in the checkpoints on
      the way, and without a `processing_class`, alone.
    - Each of several processes reads its own part of a stream. By default, accelerate lets the first process read for
      all and splits its batches, which have different shapes for different montages.

    All arguments are those of `transformers.Trainer`; docs/training-arguments.md says which of `TrainingArguments` are
    supported. A `compute_loss_func` gets the outputs of a model that saw no labels; it must return the sum over the
    windows of the batch, divided by `num_items_in_batch` where that is given.

    Raises:
        ValueError: for arguments that do not fit NeurIPT or the model, with the reason.
        FloatingPointError: in training, after ten steps in a row without a finite gradient.
    """

    def __init__(self, *args, **kwargs):
        given = inspect.signature(Trainer).bind(*args, **kwargs).arguments
        training, metrics = given.get("args"), given.get("compute_metrics")
        if training is not None:
            refuse_unsupported(training)
            keeps = metrics is None or "compute_result" in inspect.signature(metrics).parameters
            if training.batch_eval_metrics and not keeps:
                name = getattr(given.get("model"), "main_input_name", "input_values")
                given["compute_metrics"] = MetricsOfWholeSet(metrics, name)
        super().__init__(**given)
        if self.processing_class is None:
            logger.warning(
                "Without processing_class=extractor the saved folder has no feature extractor, so a pipeline cannot "
                "load it."
            )
        self._check_model(given.get("compute_loss_func") is not None)
        if isinstance(self.processing_class, NeurIPTFeatureExtractor):
            self.processing_class.refuse_other_windows(getattr(self._bare_model, "config", None))
        if isinstance(self._bare_model, NeurIPTForSequenceClassification) and isinstance(self.train_dataset, Dataset):
            take_names(self._bare_model.config, self.train_dataset)
            warn_of_scale(self._bare_model.config, self.train_dataset)
        evaluated = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        for dataset in (self.train_dataset, *evaluated.values()):
            self._check_names(dataset)
        if given.get("data_collator") is None:
            config = getattr(self._bare_model, "config", None)  # a module of another kind may have none
            names = getattr(config, "id2label", None) or {}  # label2id may be missing beside it
            self.data_collator = DataCollatorForEEG({name: index for index, name in names.items()})
        self._training_parts, self._evaluation_parts = _Means(), _Means()
        self._shares = iter(())  # of the batches whose gradients are accumulated
        self._share = 1.0
        self._divides = False  # whether a compute_loss_func was seen to divide by num_items_in_batch
        self._steps_left_out = 0  # in a row
        if self.accelerator.dataloader_config.dispatch_batches is None:
            self.accelerator.dataloader_config.dispatch_batches = False
        drawing = [thing for thing in (self.train_dataset, self.data_collator) if hasattr(thing, "set_epoch")]
        if drawing:
            self.add_callback(SetEpoch(drawing))
        self._one_start = OneStart()
        self.add_callback(self._one_start)
        self.recorder = StageRecorder(self)
        self.add_callback(self.recorder)
        self.add_callback(BlankUnseenGroups(self))

    @property
    def _bare_model(self) -> nn.Module:
        """The model without an adapter around it."""
        return base_model_of(self.model)

    def _check_model(self, other_loss: bool) -> None:
        refuse_other_loss(self._bare_model, self.args, other_loss)
        inputs = inspect.signature(self._bare_model.forward).parameters
        if unknown := [name for name in self.args.label_names or () if name not in inputs]:
            raise ValueError(
                f"label_names has {', '.join(unknown)}, but {type(self._bare_model).__name__} takes "
                f"{', '.join(inputs)}. Call the column of the data set 'labels', and leave label_names out."
            )

    def _check_names(self, dataset: Any) -> None:
        if isinstance(self._bare_model, NeurIPTForSequenceClassification) and isinstance(dataset, Dataset):
            refuse_other_names(self._bare_model.config, dataset)

    def train(self, *args, **kwargs):
        self._refuse_frozen_head()
        self._one_start.steps = 0
        return super().train(*args, **kwargs)

    def _refuse_frozen_head(self) -> None:
        if (model := self.recorder.model) is None:
            return
        trained = {canonical(name) for name, weight in model.named_parameters() if weight.requires_grad}
        if frozen := [name for name in model.untrained_weights if name not in trained]:
            layers = sorted({name.rpartition(".")[0] for name in frozen})
            raise ValueError(
                f"The checkpoint had no weights for {', '.join(frozen)}, and this training would leave them random: "
                f"requires_grad is False. For PEFT name the layers, such as LoraConfig(modules_to_save={layers}); "
                "otherwise call requires_grad_(True) on them."
            )

    # Data

    def _set_signature_columns_if_needed(self) -> None:
        """`Trainer` would remove the entries of a window that `forward` of one's own head takes as `**kwargs`."""
        super()._set_signature_columns_if_needed()
        parameters = inspect.signature(self._bare_model.forward).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if takes_all and "electrode_positions" not in parameters:
            entries = AXES.keys() & inspect.signature(NeurIPTModel.forward).parameters.keys()
            self._signature_columns += sorted(entries.difference(self._signature_columns))

    def get_train_dataloader(self):
        loader = super().get_train_dataloader()
        if has_length(loader) and not len(loader):
            raise ValueError(
                f"There is no batch to train on: {len(self.train_dataset)} windows do not fill one of "
                f"{self._train_batch_size * self.args.world_size}, and dataloader_drop_last leaves them out. Lower "
                "per_device_train_batch_size, or set dataloader_drop_last=False."
                if self.args.dataloader_drop_last
                else "There is no window to train on: the data set is empty."
            )
        return loader

    def get_eval_dataloader(self, eval_dataset=None):
        self._check_names(eval_dataset)
        with self._for_evaluation():
            if eval_dataset is None or isinstance(eval_dataset, str):
                return super().get_eval_dataloader(eval_dataset)
            # With dataloader_persistent_workers, Trainer would return the loader of the data set before this one.
            return super().get_test_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset):
        self._check_names(test_dataset)
        with self._for_evaluation():
            return super().get_test_dataloader(test_dataset)

    @contextmanager
    def _for_evaluation(self):
        """
        All windows in their order. Loaders get their own copy of the collator, with the masks of epoch 0: workers may
        prepare training batches during an evaluation.
        """
        args, collator = self.args, self.data_collator
        kept = args.dataloader_drop_last, args.dataloader_in_order
        args.dataloader_drop_last, args.dataloader_in_order = False, True
        if hasattr(collator, "set_epoch"):
            self.data_collator = deepcopy(collator)
            self.data_collator.set_epoch(0)
        try:
            yield
        finally:
            self.data_collator = collator
            args.dataloader_drop_last, args.dataloader_in_order = kept

    def _get_eval_sampler(self, eval_dataset):
        """`None` keeps the order; with `group_by_length`, `Trainer` would change it."""

    def _get_train_sampler(self, train_dataset=None):
        """Sizes of windows are channels times samples; `Trainer` would take the number of channels for the length."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        name = self.args.length_column_name
        if self.args.train_sampling_strategy in ("group_by_length", "batch_rebalance") and isinstance(dataset, Sized):
            # the data set as it was given: Trainer removes the column before it asks for the sampler
            if name in getattr(self.train_dataset, "column_names", ()):
                lengths = list(self.train_dataset[name])
            else:
                lengths = [math.prod(np.shape(dataset[index]["input_values"])) for index in range(len(dataset))]
            dataset = Dataset.from_dict({name: lengths})
        return super()._get_train_sampler(dataset)

    # Loss

    def get_batch_samples(self, *args, **kwargs):
        batches, num_items_in_batch = super().get_batch_samples(*args, **kwargs)
        self._shares = iter(self._shares_of(batches) if len(batches) > 1 else ())
        return batches, num_items_in_batch

    def _shares_of(self, batches: list[Mapping[str, Tensor]]) -> list[float]:
        """How much each of the batches counts, 1 on average: by what its loss is the mean of, in all processes."""
        counts = [
            (batch["masked_positions"].bool() & real_samples(batch)).sum()
            if "masked_positions" in batch
            else torch.tensor(find_batch_size(batch))
            for batch in batches
        ]
        counts = torch.stack([count.to(self.args.device, torch.float32) for count in counts])
        counts = self.accelerator.reduce(counts, reduction="sum")
        return (counts / counts.mean().clamp(min=1)).tolist()

    def training_step(self, *args, **kwargs):
        self._share = next(self._shares, 1.0)
        return super().training_step(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels, bare = inputs.get("labels"), self._bare_model  # which may be a module without a configuration
        smoothed = self.label_smoother is not None and labels is not None
        classifies = labels is not None and isinstance(bare, NeurIPTForSequenceClassification)
        if classifies and (smoothed or self.args.torch_compile):  # the model cannot look at the labels' values
            check_labels(labels, len(labels), problem_type_of(bare.config, labels), bare.config.num_labels)
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if classifies:  # as a model that sees the labels
            bare.config.problem_type = problem_type_of(bare.config, labels)
        parts, share = self._evaluation_parts, find_batch_size(inputs)
        if model.training:
            parts, share = self._training_parts, self._share
            if self.compute_loss_func is not None:  # already divided by the windows of all accumulated batches
                self._check_divides(outputs, labels, num_items_in_batch)
                batches = getattr(self, "current_gradient_accumulation_steps", 1)
                loss = loss + self._experts_loss(outputs) * share / batches
            else:
                task_loss = loss
                if smoothed:
                    loss = loss + self._experts_loss(outputs)
                elif classifies and getattr(outputs, "aux_loss", None) is not None:
                    task_loss = loss - self._experts_loss(outputs)
                if classifies:
                    parts.add("task_loss", task_loss.detach().mean(), share)
                loss = loss * share
        for name in LOSS_PARTS:
            if (part := getattr(outputs, name, None)) is not None:
                parts.add(name, part.detach().mean(), share)
        return (loss, outputs) if return_outputs else loss

    def _check_divides(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None) -> None:
        """Once: `Trainer` neither divides the loss of a `compute_loss_func` by the batches nor by the processes."""
        alone = self.args.gradient_accumulation_steps == 1 and self.args.world_size == 1
        if alone or self._divides or num_items_in_batch is None:
            return
        with torch.no_grad():
            once, twice = (
                self.compute_loss_func(outputs, labels, num_items_in_batch=factor * num_items_in_batch)
                for factor in (1, 2)
            )
        if once != 0 and torch.equal(once, twice):
            raise ValueError(
                "compute_loss_func ignores num_items_in_batch, so the gradients of several batches (or processes) "
                "would add up where one wants their mean. Return the sum over the windows divided by "
                "num_items_in_batch."
            )
        self._divides = True

    def _experts_loss(self, outputs: Any) -> Tensor | float:
        """The weighted auxiliary loss of a model that was asked for no loss of its own; 0 without experts."""
        config = getattr(self.recorder.model, "config", None)  # of the encoder in a module of another kind
        if config is None or not any(config.num_experts) or not config.router_aux_loss_coef:
            return 0.0
        aux_loss = outputs.get("aux_loss") if isinstance(outputs, Mapping) else None
        if aux_loss is None:
            raise ValueError(
                "label_smoothing_factor and compute_loss_func replace the model's loss, and the experts' auxiliary "
                f"loss would be lost: the {type(outputs).__name__} that the model returns has no aux_loss. Let the "
                "model return aux_loss=outputs.aux_loss of the encoder by name (return_dict=True)."
            )
        return config.router_aux_loss_coef * aux_loss.mean()  # nn.DataParallel gives one for each device

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

    # Saving

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save and not isinstance(self._bare_model, PreTrainedModel) and self.recorder.model:
            self.recorder.model.write_record(folder)  # a module of another kind, saved as bare weights
        if self.args.should_save and has_adapters(self.model):
            resumable = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", folder.name)
            if resumable or self.processing_class is None:
                self._bare_model.write_record(folder)
            else:
                save_checkpoint(self.model, self.processing_class, folder, merge_adapters=False)

    def _load_from_checkpoint(self, resume_from_checkpoint, *args, **kwargs):
        self.recorder.resume(resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)

    def create_model_card(self, *args, **kwargs) -> None:
        """`Trainer` would replace the card by one of its own."""
        complete_folder(Path(self.args.output_dir), repository=self.hub_model_id)

    # Evaluation and log

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        self._evaluation_parts = _Means()
        if isinstance(self.compute_metrics, MetricsOfWholeSet):
            self.compute_metrics.kept = {}  # an evaluation before this one may have been interrupted
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        for name, value in self._evaluation_parts.take().items():
            output.metrics[f"{metric_key_prefix}_{name}"] = value
        return output

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            logs |= self._training_parts.take()
        super().log(logs, *args, **kwargs)


__all__ = ["NeurIPTTrainer"]
