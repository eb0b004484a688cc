"""Fine-tuning, step by step: draw training windows, make a classifier, make a trainer."""

from dataclasses import dataclass, field

import pandas as pd
from datasets import Dataset
from transformers import TrainingArguments

from ..configuration_neuript import NeurIPTConfig
from ..data.targets import NUMBERS, Targets, standardisation
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTForSequenceClassification
from .arguments import read_json
from .optimization import layerwise_parameter_groups
from .trainer import NeurIPTTrainer


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


__all__ = ["ModelArguments", "draw_windows", "make_classifier", "make_trainer", "task_config"]
