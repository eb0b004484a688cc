"""Pre-training, step by step: settings, data, model and trainer of `examples/pretrain.py`."""

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset
from torch.utils.data import Sampler

from ..configuration_neuript import NeurIPTConfig
from ..data.augmentation import PreTrainingWindows, SimilarWindowsSampler
from ..data.shards import stream_windows
from ..modeling_neuript import NeurIPTForPreTraining
from .arguments import read_json
from .optimization import one_cycle_schedule
from .spectral_target import spectral_statistics
from .trainer import NeurIPTTrainer


# Windows on which the scale of the spectral target is measured.
SPECTRUM_WINDOWS = 2000
# Windows of a stream that are shuffled together; the order of the shards is shuffled, too.
STREAM_BUFFER = 2000


@dataclass
class DataArguments:
    """Prepared data sets, and the random changes to their windows. For `HfArgumentParser`, like the other three."""

    data: list[str] = field(default_factory=list, metadata={"help": "Folders written by prepare_dataset."})
    sources: str | None = field(
        default=None, metadata={"help": "Table with the columns set, licence and source, for training.json."}
    )
    max_channels: int | None = field(
        default=None, metadata={"help": "Keep at most this many channels of a window, drawn at random."}
    )
    montages: str = field(
        default='{"as_recorded": 1}',
        metadata={"help": "Shares of the montages as_recorded, average_reference and bipolar, in JSON."},
    )
    seconds: list[float] = field(
        default_factory=list, metadata={"help": "Lengths to which windows are cut at random; default: none."}
    )
    time_shift: bool = field(
        default=False, metadata={"help": "Let windows begin anywhere in a recording, not only where they were cut."}
    )
    amplitude_jitter: float = field(
        default=1.0, metadata={"help": "Scale windows up or down by a random factor of at most this."}
    )
    balance: float = field(
        default=1.0, metadata={"help": "Weight of a data set: its number of windows to this power; 0 = all equal."}
    )
    max_eval_windows: int = field(default=256, metadata={"help": "Held-out windows to evaluate on."})
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the shards one after the other, for slow or remote disks. Windows stay as prepared, and "
            "--max_steps sets the end."
        },
    )

    @property
    def changes(self) -> dict[str, Any]:
        """The random changes, as [`PreTrainingWindows`] takes them."""
        return {
            "max_channels": self.max_channels,
            "montages": read_json("montages", self.montages),
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
            ValueError: where windows are to be changed at random.
        """
        untouched = DataArguments().changes
        if asked := [name for name, value in self.changes.items() if value != untouched[name]]:
            raise ValueError(
                f"Streaming reads windows as they were prepared, but {', '.join(asked)} would change them: remove "
                "these settings, or streaming."
            )
        return stream_windows(self.data, "train").shuffle(seed=seed, buffer_size=STREAM_BUFFER)


@dataclass
class ObjectiveArguments:
    """What is hidden from the model, and what else it predicts."""

    strategy: str = field(default="amplitude", metadata={"help": "Masking: amplitude (the paper's) or random."})
    ratios: list[float] = field(
        default_factory=lambda: [0.20, 0.35, 0.50],
        metadata={"help": "Shares of the samples to select; one is drawn for each window."},
    )
    whole_share: float = field(default=0.0, metadata={"help": "Share of the windows without masks."})
    span_share: float = field(
        default=0.0, metadata={"help": "Share of the other windows that are masked by random spans in any case."}
    )
    replaced_share: float = field(
        default=0.1, metadata={"help": "Share of the selected samples that are replaced by other samples' values."}
    )
    spectral_target: bool = field(
        default=False, metadata={"help": "Also predict each channel's spectrum; its scale is measured on the data."}
    )


@dataclass
class StartArguments:
    """The model to start with, and its learning rates."""

    size: str = field(default="tiny", metadata={"help": "tiny, small or base."})
    config: str = field(default="{}", metadata={"help": "Fields of the configuration to set, in JSON."})
    weights: str | None = field(default=None, metadata={"help": "Checkpoint to start from; default: random weights."})
    schedule: str = field(
        default="one_cycle",
        metadata={"help": "one_cycle (the paper's, up to learning_rate), or trainer: by lr_scheduler_type."},
    )


@dataclass
class MonitorArguments:
    """What [`PreTrainingMonitor`] looks at."""

    monitor_steps: int = field(default=500, metadata={"help": "Steps between looks at held-out windows."})
    monitor_windows: int = field(default=32, metadata={"help": "Held-out windows of a look."})


class PreTrainer(NeurIPTTrainer):
    """
    [`NeurIPTTrainer`] with the paper's learning rates (`one_cycle`) and batches of windows of similar size. It knows
    its `windows_seen`.
    """

    def __init__(self, *args, one_cycle: bool, **kwargs):
        self.one_cycle = one_cycle
        super().__init__(*args, **kwargs)
        self._refuse_unused()

    def _refuse_unused(self) -> None:
        """Of arguments that the learning rates of one cycle, or batches of similar windows, would pass by."""
        unused = ["lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"] if self.one_cycle else []
        defaults = {field.name: field.default for field in fields(self.args)}
        if given := [name for name in unused if getattr(self.args, name) != defaults[name]]:
            raise ValueError(
                f"{', '.join(given)} would have no effect: the schedule is one_cycle. Set schedule to 'trainer', or "
                "leave them out."
            )
        if self.args.train_sampling_strategy != "random":
            raise ValueError(
                f"train_sampling_strategy={self.args.train_sampling_strategy!r} would have no effect: batches have "
                "windows of similar sizes, in a random order. Leave it out."
            )

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.one_cycle and self.lr_scheduler is None:
            self.lr_scheduler = one_cycle_schedule(optimizer or self.optimizer, num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_train_sampler(self, train_dataset: PreTrainingWindows | None = None) -> Sampler[int]:
        # the batch of all processes together: accelerate deals it out to them
        batch_size = self.args.train_batch_size * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return SimilarWindowsSampler(train_dataset or self.train_dataset, batch_size, seed=seed)

    @property
    def windows_seen(self) -> int:
        """Windows that went through the model so far; a window counts each time."""
        # that of the state, which auto_find_batch_size may have lowered
        batch_size = self.state.train_batch_size or self.args.train_batch_size
        batch = batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        steps = self.state.global_step
        if isinstance(self.train_dataset, IterableDataset) or self.args.dataloader_drop_last:
            return steps * batch
        epochs, rest = divmod(steps, math.ceil(len(self.train_dataset) / batch))
        return epochs * len(self.train_dataset) + rest * batch


def measured_spectrum(windows: PreTrainingWindows, seed: int) -> dict[str, list[float]]:
    """`spectral_mean` and `spectral_scale` of the configuration, from windows as training sees them."""
    order = np.random.default_rng(seed).permutation(len(windows))[:SPECTRUM_WINDOWS]
    extractor = windows.extractor
    examples = (windows[int(index)] for index in order)
    signals = (extractor.invert(example["input_values"][example["channel_mask"]]) for example in examples)
    mean, std = spectral_statistics(signals, extractor.sampling_rate)
    return {"spectral_mean": mean, "spectral_scale": std}


def make_model(
    start: StartArguments, spectral_target: bool, windows: PreTrainingWindows, seed: int
) -> NeurIPTForPreTraining:
    """
    Random weights of the given size, or a checkpoint, which keeps the scale of a spectral target that it has. Bands of
    connectivity that it does not have yet get the companding of the windows.
    """
    fields = read_json("config", start.config)
    config = None if start.weights is None else NeurIPTConfig.from_pretrained(start.weights)
    if config is None or config.connectivity_bands is None:
        fields = {"companding_a": windows.extractor.model_companding_a} | fields
    if spectral_target and (config is None or config.spectral_mean is None):
        fields |= measured_spectrum(windows, seed)
    if start.weights is not None:
        return NeurIPTForPreTraining.from_pretrained(start.weights, **fields)
    config = getattr(NeurIPTConfig, start.size)(num_lobes=windows.extractor.num_lobes, **fields)
    return NeurIPTForPreTraining(config)


def last_checkpoint(folder: str | Path) -> str | None:
    """
    The newest complete checkpoint of a run, `None` where there is none yet. A kill may leave an incomplete one:
    `trainer_state.json` is written last.
    """

    def is_complete(checkpoint: Path) -> bool:
        try:
            return bool(json.loads((checkpoint / "trainer_state.json").read_text()))
        except (OSError, json.JSONDecodeError):
            return False

    complete = [checkpoint for checkpoint in Path(folder).glob("checkpoint-*") if is_complete(checkpoint)]
    return str(max(complete, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2]))) if complete else None


__all__ = [
    "DataArguments",
    "MonitorArguments",
    "ObjectiveArguments",
    "PreTrainer",
    "StartArguments",
    "last_checkpoint",
    "make_model",
    "measured_spectrum",
]
