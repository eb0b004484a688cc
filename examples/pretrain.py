"""
Pre-training of NeurIPT on prepared data sets, from a laptop to several machines.

    python examples/pretrain.py examples/configs/tiny.yaml
    python examples/pretrain.py examples/configs/tiny.yaml --max_steps 200 --output_dir runs/trial
    python examples/pretrain.py examples/configs/tiny.yaml --resume_from_checkpoint true
    python examples/pretrain.py examples/configs/tiny.yaml --weights runs/tiny --output_dir runs/tiny-more
    torchrun --nproc_per_node 8 examples/pretrain.py examples/configs/base.yaml
    torchrun --nproc_per_node 2 examples/pretrain.py examples/configs/tiny.yaml --use_cpu true
    accelerate launch --config_file fsdp.yaml examples/pretrain.py examples/configs/base.yaml

The first argument is a file of settings; those on the command line go before it. `--resume_from_checkpoint true` goes
on exactly where a killed run stopped; `--weights` starts anew from weights alone, with a fresh warm-up. Data sets are
made by `prepare_dataset.py` (or `prepare_corpus.py`). The output is a complete checkpoint folder with `training.json`,
which lists the people that the weights have seen. `tensorboard --logdir runs` shows what is logged.
"""

import json
import math
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import IterableDataset
from processes import leave, refuse_apart
from settings_file import parse_with_file
from task import provenance
from torch.utils.data import Sampler, Subset
from transformers import HfArgumentParser, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import ExportableState

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    NeurIPTConfig,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTTrainer,
    save_checkpoint,
)
from neuript_hf.checkpoints.training_record import (
    RECORD_FILE,
    TrainingRecord,
    TrainingStage,
    machine_name,
    read_training_record,
    seen_in_shards,
    write_training_record,
)
from neuript_hf.data.augmentation import PreTrainingWindows, SimilarWindowsSampler
from neuript_hf.data.shards import stream_windows
from neuript_hf.training.monitoring import PreTrainingMonitor
from neuript_hf.training.optimization import one_cycle_schedule
from neuript_hf.training.spectral_target import spectral_statistics


# Windows on which the scale of the spectral target is measured.
SPECTRUM_WINDOWS = 2000
# Windows of a stream that are shuffled together, beside the order of the shards.
STREAM_BUFFER = 2000
# Of the extractor that the windows were made with; the other settings of the checkpoint's are the defaults.
KEPT_SETTINGS = ("sampling_rate", "companding", "companding_a", "coordinate_frame")


@dataclass
class DataArguments:
    """Prepared data sets, and how their windows are changed at random."""

    data: list[str] = field(default_factory=list, metadata={"help": "Folders that prepare_dataset has written."})
    sources: str | None = field(
        default=None,
        metadata={"help": "Table with set, licence and source for training.json; prepare_corpus.py writes sets.csv."},
    )
    max_channels: int | None = field(default=None, metadata={"help": "Random channels of a window, at most so many."})
    montages: str = field(
        default='{"as_recorded": 1}',
        metadata={"help": "Shares of the montages as_recorded, average_reference and bipolar, in JSON."},
    )
    seconds: list[float] = field(
        default_factory=list, metadata={"help": "Lengths of random parts of windows; none = whole windows."}
    )
    time_shift: bool = field(
        default=False, metadata={"help": "Windows begin anywhere in a recording, not only where they were cut."}
    )
    amplitude_jitter: float = field(
        default=1.0, metadata={"help": "Windows are made louder or quieter by a factor of up to this."}
    )
    balance: float = field(
        default=1.0, metadata={"help": "Data sets count in an epoch by their windows to this power; 1 = as they are."}
    )
    max_eval_windows: int = field(default=256, metadata={"help": "Held-out windows that evaluations look at."})
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the shards one after the other, for slow or distant disks. Windows then stay as they were "
            "prepared, and --max_steps says when to stop."
        },
    )

    @property
    def changes(self) -> dict[str, Any]:
        """How windows are changed at random."""
        return {
            "max_channels": self.max_channels,
            "montages": json.loads(self.montages),
            "seconds": self.seconds,
            "time_shift": self.time_shift,
            "amplitude_jitter": self.amplitude_jitter,
            "balance": self.balance,
        }

    def windows(self, split: str, seed: int) -> PreTrainingWindows:
        return PreTrainingWindows(self.data, split, seed=seed, **self.changes)

    def stream(self, seed: int) -> IterableDataset:
        """
        The training windows, shard by shard.

        Raises:
            ValueError: where windows shall be changed at random.
        """
        untouched = DataArguments().changes
        if asked := [name for name, value in self.changes.items() if value != untouched[name]]:
            raise ValueError(
                f"A stream gives windows as they were prepared, but {', '.join(asked)} would change them: leave them "
                "out, or streaming."
            )
        return stream_windows(self.data, "train").shuffle(seed=seed, buffer_size=STREAM_BUFFER)


@dataclass
class ObjectiveArguments:
    """What is hidden, and what is learned beside it."""

    strategy: str = field(default="amplitude", metadata={"help": "Masks: amplitude (the paper's) or random."})
    ratios: list[float] = field(
        default_factory=lambda: [0.20, 0.35, 0.50], metadata={"help": "Shares of samples to select, drawn by window."}
    )
    whole_share: float = field(default=0.0, metadata={"help": "Share of the windows that are left whole."})
    span_share: float = field(
        default=0.0, metadata={"help": "Share of the other windows that are masked by random spans in any case."}
    )
    replaced_share: float = field(
        default=0.1, metadata={"help": "Share of the selected samples that get another sample's value."}
    )
    spectral_target: bool = field(
        default=False, metadata={"help": "Also predict each channel's spectrum; its scale is measured on the data."}
    )


@dataclass
class ModelArguments:
    """The model."""

    size: str = field(default="tiny", metadata={"help": "tiny, small or base."})
    config: str = field(default="{}", metadata={"help": "Fields of the configuration to set, in JSON."})
    weights: str | None = field(
        default=None, metadata={"help": "Folder with weights to start from; none = random weights."}
    )
    schedule: str = field(
        default="one_cycle",
        metadata={"help": "one_cycle (the paper's, up to learning_rate), or trainer: what lr_scheduler_type says."},
    )


@dataclass
class MonitorArguments:
    """What is watched beside the losses."""

    monitor_steps: int = field(default=500, metadata={"help": "Steps between looks at held-out windows."})
    monitor_windows: int = field(default=32, metadata={"help": "Held-out windows of a look."})


class PreTrainer(NeurIPTTrainer):
    """Trainer with the paper's learning rates, and batches of windows of similar size."""

    def __init__(self, *args, one_cycle: bool, **kwargs):
        self.one_cycle = one_cycle
        super().__init__(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.one_cycle and self.lr_scheduler is None:
            self.lr_scheduler = one_cycle_schedule(optimizer or self.optimizer, num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_train_sampler(self, train_dataset: PreTrainingWindows | None = None) -> Sampler[int]:
        # of the batch of all processes, which accelerate deals out to them
        batch_size = self.args.train_batch_size * self.args.world_size
        return SimilarWindowsSampler(train_dataset or self.train_dataset, batch_size, seed=self.args.seed)


class Clock(TrainerCallback, ExportableState):
    """Seconds of training, all resumed parts together."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.since = 0.0

    def state(self) -> dict:
        return {"args": {"seconds": self.seconds}, "attributes": {}}

    def on_train_begin(self, args, state, control, **kwargs):
        self.since = perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        now = perf_counter()
        self.seconds += now - self.since
        self.since = now


def parse_arguments(
    arguments: list[str],
) -> tuple[DataArguments, ObjectiveArguments, ModelArguments, MonitorArguments, TrainingArguments]:
    """
    The settings of the file that is named first, if one is, overruled by those behind it.

    Raises:
        ValueError: for a setting in the file that does not exist, or where several processes would not train together.
    """
    parser = HfArgumentParser((DataArguments, ObjectiveArguments, ModelArguments, MonitorArguments, TrainingArguments))
    # files of a tracker, where one is installed; every other of Trainer's trackers can be named instead
    parser.set_defaults(report_to="tensorboard" if find_spec("tensorboard") else "none")
    # accelerate would fill up a smaller last batch for several processes, which then would not train as one
    parser.set_defaults(dataloader_drop_last=True)
    parsed = parse_with_file(parser, arguments)
    refuse_apart(parsed[-1])
    return parsed


def measured_spectrum(windows: PreTrainingWindows, seed: int) -> dict[str, list[float]]:
    """`spectral_mean` and `spectral_scale` of the configuration, from windows as training sees them."""
    order = np.random.default_rng(seed).permutation(len(windows))[:SPECTRUM_WINDOWS]
    extractor = windows.extractor
    examples = (windows[int(index)] for index in order)
    signals = (extractor.invert(example["input_values"][example["channel_mask"]]) for example in examples)
    mean, std = spectral_statistics(signals, extractor.sampling_rate)
    return {"spectral_mean": mean, "spectral_scale": std}


def make_model(arguments: ModelArguments, spectral_target: bool, windows: PreTrainingWindows, seed: int):
    """Random weights of the named size, or those of a folder, which keep the scale of their spectral target."""
    fields = json.loads(arguments.config)
    if arguments.weights is not None:
        config = NeurIPTConfig.from_pretrained(arguments.weights)
        if spectral_target and config.spectral_mean is None:
            fields |= measured_spectrum(windows, seed)
        return NeurIPTForPreTraining.from_pretrained(arguments.weights, **fields)
    if spectral_target:
        fields |= measured_spectrum(windows, seed)
    config = getattr(NeurIPTConfig, arguments.size)(num_lobes=windows.extractor.num_lobes, **fields)
    return NeurIPTForPreTraining(config)


def make_trainer(
    data: DataArguments,
    objective: ObjectiveArguments,
    model_arguments: ModelArguments,
    watch: MonitorArguments,
    training: TrainingArguments,
) -> PreTrainer:
    """The trainer with its model, data and all that watches it; the seed is set."""
    set_seed(training.seed)
    windows = data.windows("train", training.seed)
    held_out = data.windows("validation", training.seed)
    chosen = np.random.default_rng(training.seed).permutation(len(held_out)).tolist()
    # for recordings as they come: the windows' own may have had nothing left to filter
    extractor = NeurIPTFeatureExtractor(
        montage="as_recorded", **{name: getattr(windows.extractor, name) for name in KEPT_SETTINGS}
    )
    model = make_model(model_arguments, objective.spectral_target, windows, training.seed)

    masks = {
        "strategy": objective.strategy,
        "ratios": objective.ratios,
        "seed": training.seed,
        "replaced_share": objective.replaced_share,
    }
    trainer = PreTrainer(
        model=model,
        args=training,
        train_dataset=data.stream(training.seed) if data.streaming else windows,
        eval_dataset=Subset(held_out, sorted(chosen[: data.max_eval_windows])),
        data_collator=DataCollatorForAmplitudeAwareMasking(
            **masks,
            whole_share=objective.whole_share,
            span_share=objective.span_share,
            spectral_extractor=extractor if objective.spectral_target else None,
        ),
        processing_class=extractor,
        one_cycle=model_arguments.schedule == "one_cycle",
    )
    looked_at = [held_out[index] for index in chosen[: watch.monitor_windows]]
    trainer.add_callback(
        PreTrainingMonitor(
            trainer,
            DataCollatorForAmplitudeAwareMasking(**masks)(looked_at),
            extractor,
            look_steps=watch.monitor_steps,
            picture_steps=watch.monitor_steps,
        )
    )
    trainer.add_callback(Clock())
    # the clock goes on after a resume
    training.restore_callback_states_from_checkpoint = True
    return trainer


def main():
    data, objective, model_arguments, watch, training = parse_arguments(sys.argv[1:])
    resumed = training.resume_from_checkpoint
    if resumed == "true" and (Path(training.output_dir) / RECORD_FILE).exists():
        print(f"{training.output_dir} is finished: its record stays as it is. More steps begin with --weights.")
        return
    trainer = make_trainer(data, objective, model_arguments, watch, training)
    trainer.train(resume_from_checkpoint=last_checkpoint(training.output_dir) if resumed == "true" else resumed)

    trainer.save_model()  # gathers what is sharded
    if trainer.is_world_process_zero():
        model = NeurIPTForPreTraining.from_pretrained(training.output_dir)
        save_checkpoint(model, trainer.processing_class, training.output_dir)
        before = None if model_arguments.weights is None else read_training_record(model_arguments.weights)
        stage = describe_training(trainer, data, objective, model_arguments)
        write_training_record(training.output_dir, (before or TrainingRecord()).followed_by(stage))


def last_checkpoint(folder: str) -> str | None:
    """
    The newest checkpoint of a run that is whole, `None` where there is none yet: `trainer_state.json` is written last,
    and a kill may have come in between.
    """

    def is_whole(checkpoint: Path) -> bool:
        try:
            return bool(json.loads((checkpoint / "trainer_state.json").read_text()))
        except (OSError, json.JSONDecodeError):
            return False

    whole = [checkpoint for checkpoint in Path(folder).glob("checkpoint-*") if is_whole(checkpoint)]
    return str(max(whole, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2]))) if whole else None


def describe_training(
    trainer: PreTrainer, data: DataArguments, objective: ObjectiveArguments, model: ModelArguments
) -> TrainingStage:
    """What `training.json` says of this training."""
    training, steps = trainer.args, trainer.state.global_step
    origins = {}
    if data.sources is not None:
        table = pd.read_csv(data.sources).groupby("set").first()
        origins = table[["licence", "source"]].to_dict("index")
    datasets, subjects = seen_in_shards(data.data, origins=origins)
    batch = training.train_batch_size * training.world_size * training.gradient_accumulation_steps
    windows_seen = steps * batch
    if not (data.streaming or training.dataloader_drop_last):
        epochs, rest = divmod(steps, math.ceil(len(trainer.train_dataset) / batch))
        windows_seen = epochs * len(trainer.train_dataset) + rest * batch
    (clock,) = (callback for callback in trainer.callback_handler.callbacks if isinstance(callback, Clock))
    origin = provenance()
    rates = ("learning_rate", "adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "bf16")
    recipe = {name: getattr(training, name) for name in rates}
    return TrainingStage(
        kind="pre-training",
        datasets=datasets,
        subjects=subjects,
        steps=steps,
        windows_seen=windows_seen,
        seconds=round(clock.seconds, 1),
        threads=torch.get_num_threads(),
        machine=machine_name(training.device),
        commit=origin["commit"],
        command=origin["command"],
        seeds=[training.seed],
        recipe=vars(data) | vars(objective) | vars(model) | recipe | {"windows_in_a_batch": batch},
    )


if __name__ == "__main__":
    main()
    leave()
