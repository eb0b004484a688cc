"""
Pre-training of NeurIPT on prepared data sets, from a laptop to several machines.

    python examples/pretrain.py settings.yaml
    python examples/pretrain.py settings.yaml --max_steps 200 --output_dir runs/trial
    python examples/pretrain.py settings.yaml --resume_from_checkpoint true
    python examples/pretrain.py settings.yaml --weights runs/tiny --output_dir runs/tiny-more
    torchrun --nproc_per_node 8 examples/pretrain.py settings.yaml
    torchrun --nproc_per_node 2 examples/pretrain.py settings.yaml --use_cpu true
    accelerate launch --config_file fsdp.yaml examples/pretrain.py settings.yaml

The first argument is a settings file (those of our checkpoints are in `research/settings/`); the command line
overrides it. `--resume_from_checkpoint true` continues a killed run exactly where it stopped; `--weights` starts a new
training, with a new warm-up, from the weights of a checkpoint. `prepare_dataset.py` makes the data sets. The output is
a complete checkpoint folder with `training.json`, which lists the people the weights have seen. `tensorboard --logdir
runs` shows the log.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from torch.utils.data import Subset
from transformers import HfArgumentParser, TrainingArguments, set_seed

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    save_checkpoint,
)
from neuript_hf.checkpoints.golden import GOLDEN_NAME
from neuript_hf.checkpoints.training_record import fingerprints_in_shards, seen_in_shards
from neuript_hf.training.arguments import parse_with_file, run_program
from neuript_hf.training.cpu import keep_memory
from neuript_hf.training.monitoring import PreTrainingMonitor
from neuript_hf.training.pretraining import (
    DataArguments,
    MonitorArguments,
    ObjectiveArguments,
    PreTrainer,
    StartArguments,
    last_checkpoint,
    make_model,
)
from neuript_hf.training.processes import leave, refuse_apart


# Settings of the windows' extractor that the checkpoint keeps. The others are defaults, for recordings as they come:
# the prepared windows may have needed no filter.
KEPT_SETTINGS = ("sampling_rate", "companding", "companding_a", "coordinate_frame")
# Settings of the training that decide the result and go into `training.json`.
RECORDED = ("learning_rate", "adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "bf16")
ARGUMENTS = (DataArguments, ObjectiveArguments, StartArguments, MonitorArguments, TrainingArguments)


def parse_arguments(
    arguments: list[str],
) -> tuple[DataArguments, ObjectiveArguments, StartArguments, MonitorArguments, TrainingArguments]:
    parser = HfArgumentParser(ARGUMENTS)
    # the files of a tracker, if one is installed; any other of Trainer's trackers can be named instead
    parser.set_defaults(report_to="tensorboard" if find_spec("tensorboard") else "none")
    # accelerate would pad a smaller last batch for several processes, which would then not train as one
    parser.set_defaults(dataloader_drop_last=True)
    return parse_with_file(parser, arguments)


def make_trainer(
    data: DataArguments,
    objective: ObjectiveArguments,
    start: StartArguments,
    watch: MonitorArguments,
    training: TrainingArguments,
) -> PreTrainer:
    set_seed(training.seed)
    windows = data.windows("train", training.seed)
    held_out = data.windows("validation", training.seed)
    order = np.random.default_rng(training.seed).permutation(len(held_out)).tolist()
    settings = {name: getattr(windows.extractor, name) for name in KEPT_SETTINGS}
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", **settings)
    masks = {
        "strategy": objective.strategy,
        "ratios": objective.ratios,
        "replaced_share": objective.replaced_share,
        "seed": training.seed,
    }
    trainer = PreTrainer(
        model=make_model(start, objective.spectral_target, windows, training.seed),
        args=training,
        train_dataset=data.stream(training.seed) if data.streaming else windows,
        eval_dataset=Subset(held_out, sorted(order[: data.max_eval_windows])),
        data_collator=DataCollatorForAmplitudeAwareMasking(
            **masks,
            whole_share=objective.whole_share,
            span_share=objective.span_share,
            spectral_extractor=extractor if objective.spectral_target else None,
        ),
        processing_class=extractor,
        one_cycle=start.schedule == "one_cycle",
    )
    looked_at = DataCollatorForAmplitudeAwareMasking(**masks)([held_out[i] for i in order[: watch.monitor_windows]])
    steps = watch.monitor_steps
    trainer.add_callback(PreTrainingMonitor(trainer, looked_at, extractor, look_steps=steps, picture_steps=steps))
    return trainer


def describe(
    trainer: PreTrainer,
    data: DataArguments,
    objective: ObjectiveArguments,
    start: StartArguments,
    watch: MonitorArguments,
    training: TrainingArguments,
) -> None:
    """Tells the trainer's recorder what the training is, for `training.json`."""
    origins = {}
    if data.sources is not None:
        origins = pd.read_csv(data.sources).groupby("set")[["licence", "source"]].first().to_dict("index")
    batch = training.train_batch_size * training.world_size * training.gradient_accumulation_steps
    trainer.recorder.describe(
        kind="pre-training",
        seen=seen_in_shards(data.data, origins=origins),
        recipe=vars(data)
        | vars(objective)
        | vars(start)
        | {name: getattr(training, name) for name in RECORDED}
        | {"windows_in_a_batch": batch},
        fingerprints=fingerprints_in_shards(data.data),
    )


def main():
    data, objective, start, watch, training = parse_arguments(sys.argv[1:])
    refuse_apart(training)
    resume = training.resume_from_checkpoint
    if resume == "true" and (Path(training.output_dir) / GOLDEN_NAME).exists():
        print(f"{training.output_dir} is finished and stays as it is. To train on, start again with --weights.")
        return
    trainer = make_trainer(data, objective, start, watch, training)
    describe(trainer, data, objective, start, watch, training)
    trainer.train(resume_from_checkpoint=last_checkpoint(training.output_dir) if resume == "true" else resume)

    trainer.save_model()  # gathers sharded weights
    if not trainer.is_world_process_zero():
        return
    model = NeurIPTForPreTraining.from_pretrained(training.output_dir)
    save_checkpoint(model, trainer.processing_class, training.output_dir)


if __name__ == "__main__":
    keep_memory()
    if status := run_program(main, *ARGUMENTS):
        sys.exit(status)
    leave()
