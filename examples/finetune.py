"""
Fine-tunes NeurIPT on labelled EEG through `Trainer` and scores it on people that it has never seen.

    python examples/finetune.py --data manifest.csv --rows set=eegmat --output_dir runs/eegmat
    python examples/finetune.py --data folder --events left right --model folder_of_weights --output_dir runs/hands
    python examples/finetune.py examples/configs/tasks/eyes.yaml --data manifest.csv

From files to metrics: recordings -> feature extractor -> windows split by person -> a closed-form start of the head ->
fine-tuning -> scores of windows, recordings and people beside chance and a classical method on the same windows.
Writes a complete checkpoint with `training.json`, whom the weights have seen, and `results.json`. People whom the
checkpoint that it starts from has seen are refused. All arguments of `transformers.TrainingArguments` work; `--help`
lists the rest.
"""

import json
import sys
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from datasets import Dataset
from processes import leave, refuse_apart
from settings_file import parse_with_file
from task import (
    TaskArguments,
    baseline_scores,
    load_task,
    make_extractor,
    new_config,
    print_scores,
    provenance,
    refuse_seen,
    scores_of,
    seen_in_training,
    write_results,
)
from transformers import AutoModelForSequenceClassification, HfArgumentParser, TrainingArguments, set_seed

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForSequenceClassification, NeurIPTTrainer, save_checkpoint
from neuript_hf.checkpoints.training_record import (
    TrainingRecord,
    TrainingStage,
    machine_name,
    read_training_record,
    write_training_record,
)
from neuript_hf.evaluation.linear_probe import fit_logistic, pooled_features, start_head
from neuript_hf.evaluation.metrics import compute_metrics
from neuript_hf.training.optimization import layerwise_parameter_groups


@dataclass
class ModelArguments:
    """The model to start from and what to train."""

    model: str | None = field(default=None, metadata={"help": "Checkpoint to start from; none = random weights."})
    size: str = field(default="tiny", metadata={"help": "Size of a model from random weights: tiny, small or base."})
    config: str = field(default="{}", metadata={"help": "Fields of the configuration to set, in JSON."})
    head_start: bool = field(
        default=True,
        metadata={"help": "Start the head from a logistic fit on frozen features of the training people."},
    )
    freeze_encoder: bool = field(default=False, metadata={"help": "Train the head alone."})
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Learning rate of an encoder layer as a share of the next one's; 1 = all learn alike."},
    )
    train_share: float = field(
        default=1.0, metadata={"help": "Share of the training windows to use, of all people alike, drawn by seed."}
    )

    def __post_init__(self):
        if not 0 < self.train_share <= 1:
            raise ValueError(f"train_share must be above 0 and at most 1 (all windows), but is {self.train_share}.")


def draw_windows(dataset: Dataset, count: int, seed: int) -> Dataset:
    """
    So many windows, spread as evenly over the people as can be, and over the classes within each person. A smaller
    draw with the same seed is part of a larger one.
    """
    rows = pd.DataFrame({"person": dataset["subject"], "label": dataset["labels"]}).sample(frac=1, random_state=seed)
    rows = rows.iloc[rows.groupby(["person", "label"]).cumcount().argsort(kind="stable")]
    rows = rows.iloc[rows.groupby("person").cumcount().argsort(kind="stable")]
    return dataset.select(sorted(rows.index[:count]))


def make_model(
    arguments: ModelArguments, train: Dataset, extractor: NeurIPTFeatureExtractor
) -> NeurIPTForSequenceClassification:
    """A classifier of the task's classes with random weights, or those of a checkpoint under a new head."""
    overrides = json.loads(arguments.config)
    if arguments.model is None:
        return NeurIPTForSequenceClassification(new_config(arguments.size, train, extractor, **overrides))
    names = train.features["labels"].names
    return AutoModelForSequenceClassification.from_pretrained(
        arguments.model,
        num_lobes=extractor.num_lobes,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        ignore_mismatched_sizes=True,  # a head for other classes or lobes starts anew
        **overrides,
    )


def make_trainer(
    model: NeurIPTForSequenceClassification, training: TrainingArguments, layer_decay: float, **arguments
) -> NeurIPTTrainer:
    """A trainer whose optimizer is what `training` says, its rates falling from layer to layer of the encoder."""
    optimizer, settings = NeurIPTTrainer.get_optimizer_cls_and_kwargs(training, model)
    settings["params"] = layerwise_parameter_groups(model, training.learning_rate, layer_decay, training.weight_decay)
    return NeurIPTTrainer(model=model, args=training, optimizer_cls_and_kwargs=(optimizer, settings), **arguments)


def training_record(
    task: TaskArguments,
    model_arguments: ModelArguments,
    trainer: NeurIPTTrainer,
    extractor: NeurIPTFeatureExtractor,
    seconds: float,
) -> TrainingRecord:
    """Whom the weights have seen: the people of this training, and those of the checkpoint that it started from."""
    datasets, people = seen_in_training(task, trainer.train_dataset, extractor)
    origin = provenance()
    stage = TrainingStage(
        kind=f"fine-tuning to tell {', '.join(trainer.model.config.id2label.values())}",
        datasets=datasets,
        subjects=people,
        steps=trainer.state.global_step,
        windows_seen=round(trainer.state.epoch * len(trainer.train_dataset)),
        seconds=seconds,
        threads=origin["threads"],
        machine=machine_name(trainer.args.device),
        commit=origin["commit"],
        command=origin["command"],
        seeds=[trainer.args.seed],
        recipe=vars(model_arguments),
    )
    before = read_training_record(model_arguments.model) if model_arguments.model else None
    return (before or TrainingRecord()).followed_by(stage)


def main():
    task, model_arguments, training = parse_with_file(
        HfArgumentParser((TaskArguments, ModelArguments, TrainingArguments)), sys.argv[1:]
    )
    refuse_apart(training)
    set_seed(training.seed)

    seen = refuse_seen(task, model_arguments.model)
    extractor = make_extractor(task, model_arguments.model)
    train, unseen, splits = load_task(task, extractor, training.seed)
    train = draw_windows(train, max(1, round(model_arguments.train_share * len(train))), training.seed)
    model = make_model(model_arguments, train, extractor)

    results = {"windows": {"train": len(train), "unseen": len(unseen)}, "seen_people": seen}
    if model_arguments.head_start:
        features = pooled_features(model, train)
        fit = fit_logistic(features, np.asarray(train["labels"]), np.asarray(train["subject"]), training.seed)
        start_head(model, fit)
        results["head_start"] = scores_of(fit.predict_log_proba(pooled_features(model, unseen)), unseen)
    if model_arguments.freeze_encoder:
        model.neuript.requires_grad_(False)
    results["trainable_parameters"] = model.num_parameters(only_trainable=True)
    results["parameters"] = model.num_parameters()
    if training.process_index == 0:
        print(f"{results['trainable_parameters']:,} of {results['parameters']:,} parameters are trained.")

    trainer = make_trainer(
        model,
        training,
        model_arguments.layer_decay,
        train_dataset=train,
        eval_dataset=splits.get("validation"),
        processing_class=extractor,
        compute_metrics=compute_metrics,
    )
    outcome = trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    if trainer.is_world_process_zero():
        record = training_record(task, model_arguments, trainer, extractor, outcome.metrics["train_runtime"])
        write_training_record(training.output_dir, record)
        save_checkpoint(model, extractor, training.output_dir)

    predictions = trainer.predict(unseen).predictions  # by all processes, each a part
    if not trainer.is_world_process_zero():
        return
    results["model"] = scores_of(predictions, unseen)
    results["baseline"] = baseline_scores(task, train, unseen, extractor)
    results["log"] = trainer.state.log_history
    write_results(training.output_dir, results, task, training.seed)
    print_scores(
        f"{results['model']['people']} people never seen, {len(unseen)} windows, chance "
        f"{results['model']['chance']:.3f}",
        {
            "frozen features + fit": results.get("head_start"),
            "fine-tuned": results["model"],
            task.baseline.replace("_", " "): results["baseline"],
        },
    )


if __name__ == "__main__":
    main()
    leave()
