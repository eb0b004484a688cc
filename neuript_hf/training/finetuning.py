"""Fine-tuning, step by step: draw training windows, make a classifier, make a trainer."""

import copy
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import TrainingArguments

from ..configuration_neuript import NeurIPTConfig
from ..data.targets import NUMBERS, ONE_CLASS, Targets, standardisation
from ..evaluation.linear_probe import class_scores, people_folds, pooled_features
from ..evaluation.metrics import AccuracyOverPeople
from ..evaluation.target_fits import start_from_fit
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTForSequenceClassification
from .arguments import read_json
from .optimization import layerwise_parameter_groups
from .trainer import NeurIPTTrainer


@dataclass
class FineTuningArguments(TrainingArguments):
    """
    `TrainingArguments` whose defaults are the recipe of our own task weights: half a minute to some minutes for a few
    hundred windows on a CPU. How it was chosen is in docs/fine-tuning.md.
    """

    learning_rate: float = field(default=3e-4, metadata={"help": "Learning rate of the head at its highest."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "How the learning rate falls."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps in which it rises; below 1 a share of all."})
    weight_decay: float = field(default=0.005, metadata={"help": "Weight decay."})
    num_train_epochs: float = field(default=3, metadata={"help": "How often each window is trained on."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Windows in a training batch."})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Windows in another batch."})
    logging_steps: float = field(default=0.1, metadata={"help": "Steps between lines of the log; below 1 a share."})


@dataclass
class ModelArguments:
    """The model to start from, and what to train. For `HfArgumentParser`."""

    model: str | None = field(default=None, metadata={"help": "Checkpoint to start from; default: random weights."})
    size: str = field(default="tiny", metadata={"help": "Size of a model with random weights: tiny, small or base."})
    config: str = field(default="{}", metadata={"help": "Fields of the configuration to set, in JSON."})
    head_start: bool = field(
        default=True, metadata={"help": "Start the head from a linear fit on frozen features of the training people."}
    )
    freeze_encoder: bool = field(default=False, metadata={"help": "Train only the head."})
    choose_by_folds: int | None = field(
        default=None,
        metadata={
            "help": "Compare the frozen fit with fine-tuning by so many folds over the training people, and keep the "
            "better one."
        },
    )
    layer_decay: float = field(
        default=1.0, metadata={"help": "Learning rate of each encoder layer relative to the layer above it."}
    )
    train_share: float = field(
        default=1.0,
        metadata={"help": "Share of the training windows to use, drawn by seed and evenly over the people."},
    )

    def __post_init__(self):
        if not 0 < self.train_share <= 1:
            raise ValueError(f"train_share must be above 0 and at most 1 (all windows), but is {self.train_share}.")
        if self.choose_by_folds is not None and not (self.choose_by_folds >= 2 and self.head_start):
            raise ValueError(
                "choose_by_folds must be 2 or more, and head_start true, but they are "
                f"{self.choose_by_folds} and {self.head_start}."
            )


def draw_windows(dataset: Dataset, count: int, seed: int) -> Dataset:
    """
    Draws `count` windows, spread as evenly as possible over people, and over the labels of each person. A smaller
    draw with the same seed is part of a larger one.
    """
    labels = [tuple(label) if isinstance(label, list) else label for label in dataset["labels"]]
    rows = pd.DataFrame({"person": dataset["subject"], "label": labels}).sample(frac=1, random_state=seed)
    rows = rows.iloc[rows.groupby(["person", "label"]).cumcount().argsort(kind="stable")]
    rows = rows.iloc[rows.groupby("person").cumcount().argsort(kind="stable")]
    return dataset.select(sorted(rows.index[:count]))


def task_config(train: Dataset, extractor: NeurIPTFeatureExtractor, problem_type: str | None = None) -> dict:
    """
    Fields of the configuration that a task decides: the problem type, the names of its classes, labels or numbers, the
    mean and standard deviation of numbers to predict, and the extractor's lobes.

    Args:
        train: the training windows.
        extractor: made them.
        problem_type: see [`Targets.of`].

    Raises:
        ValueError: if the data set has no labels, labels that do not fit the problem type, or a number to predict that
            is the same in all training windows.
    """
    targets = Targets.of(train, problem_type)
    fields = {"target_mean": None, "target_scale": None}
    if targets.problem_type == NUMBERS:
        fields = standardisation(targets.array(train))
        same = [name for name, scale in zip(targets.names, fields["target_scale"], strict=True) if not scale > 0]
        if same:
            raise ValueError(
                f"{', '.join(same)} is the same number in all {len(train)} training windows, so there is nothing to "
                "learn. Train on recordings with different numbers."
            )
    return fields | {
        "problem_type": targets.problem_type,
        "id2label": dict(enumerate(targets.names)),
        "label2id": {name: index for index, name in enumerate(targets.names)},
        "num_lobes": extractor.num_lobes,
    }


def make_classifier(
    arguments: ModelArguments, train: Dataset, extractor: NeurIPTFeatureExtractor
) -> NeurIPTForSequenceClassification:
    """
    A model with a head for the task's targets: a checkpoint with a new head, or random weights.

    Raises:
        ValueError: as [`task_config`], and for a checkpoint that expects other windows than the extractor makes.
    """
    given = read_json("config", arguments.config)
    fields = task_config(train, extractor, given.get("problem_type")) | given
    if arguments.model is None:
        fields = {"companding_a": extractor.model_companding_a} | fields
        model = NeurIPTForSequenceClassification(getattr(NeurIPTConfig, arguments.size)(**fields))
    else:  # a head for other classes or lobes starts anew
        model = NeurIPTForSequenceClassification.from_pretrained(
            arguments.model, ignore_mismatched_sizes=True, **fields
        )
    extractor.refuse_other_windows(model.config)
    return model


def make_trainer(
    model: NeurIPTForSequenceClassification, training: TrainingArguments, layer_decay: float, **arguments
) -> NeurIPTTrainer:
    """
    A trainer with the optimizer of `training`, whose learning rates fall from layer to layer of the encoder.

    Raises:
        ValueError: for `optim_target_modules`, which would group the weights in another way.
    """
    if training.optim_target_modules:
        raise ValueError(
            "optim_target_modules groups the weights by module, layer_decay by layer. Leave it out, or use "
            "NeurIPTTrainer, which has no learning rates by layer."
        )
    optimizer, settings = NeurIPTTrainer.get_optimizer_cls_and_kwargs(training, model)
    settings["params"] = layerwise_parameter_groups(model, training.learning_rate, layer_decay, training.weight_decay)
    return NeurIPTTrainer(model=model, args=training, optimizer_cls_and_kwargs=(optimizer, settings), **arguments)


def frozen_against_fine_tuned(
    start: ModelArguments, train: Dataset, extractor: NeurIPTFeatureExtractor, training: TrainingArguments
) -> dict[str, list[float]]:
    """
    Balanced accuracy of the frozen fit and of fine-tuning on training people who were left out, for each of
    `start.choose_by_folds` folds: `{"frozen": [...], "fine_tuned": [...]}`. Nobody else is looked at.

    Raises:
        ValueError: if windows do not have one class each, or there are fewer than two people.
    """
    targets = Targets.of(train)
    if targets.problem_type != ONE_CLASS:
        raise ValueError(f"choose_by_folds is for one class for each window, not for {targets.problem_type}.")
    settings = copy.copy(training)
    settings.save_strategy, settings.eval_strategy, settings.load_best_model_at_end = "no", "no", False
    scores = {"frozen": [], "fine_tuned": []}
    labels, people = targets.array(train), np.asarray(train["subject"])
    for rest, left_out in people_folds(labels, people, start.choose_by_folds, training.seed):
        fitted, scored = train.select(rest), train.select(left_out)
        model = make_classifier(start, fitted, extractor)
        fit = start_from_fit(model, fitted, training.seed)
        frozen = class_scores(fit, pooled_features(model, scored))
        trainer = make_trainer(model, settings, start.layer_decay, train_dataset=fitted, processing_class=extractor)
        trainer.train()
        for name, predictions in (("frozen", frozen), ("fine_tuned", trainer.predict(scored).predictions)):
            scores[name].append(AccuracyOverPeople.of(np.asarray(predictions), scored).value)
    return scores


__all__ = [
    "FineTuningArguments",
    "ModelArguments",
    "draw_windows",
    "frozen_against_fine_tuned",
    "make_classifier",
    "make_trainer",
    "task_config",
]
