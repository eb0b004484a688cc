"""
Pre-training by the clock, where a GPU is at hand for some minutes:

    python research/train_on_gpu.py measure research/settings/base_gpu.yaml --batches 32 64 96
    python research/train_on_gpu.py train research/settings/base_gpu.yaml --minutes 8
    python research/train_on_gpu.py cut runs/base pieces

`measure` trains a few steps with each size of batch, and prints windows per second and the memory they take. `train`
is `examples/pretrain.py`, with one difference: how many steps there will be is not known beforehand. Learning rates
follow the same cycle over the time instead, and training ends so many minutes after the program began. Other options
are those of `pretrain.py`. `cut` writes the last weights in bfloat16, with all that belongs to them, as a few files of
less than 16 MiB. Where they were brought to, `cat pieces/base.part-* | tar x -C runs` joins them, and

    python research/train_on_gpu.py complete runs/base

makes a complete checkpoint folder of them, with code, card and golden tensors. `examples` must be on PYTHONPATH.
"""

import argparse
import gc
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import pretrain
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForPreTraining, save_checkpoint
from neuript_hf.checkpoints.golden import EXTRACTOR_NAME
from neuript_hf.history import RECORD_FILE
from neuript_hf.training.pretraining import PreTrainer, last_checkpoint


BEGIN = perf_counter()
# The learning rates of one cycle, in so many parts: more than there will be steps.
TICKS = 1_000_000
# The first steps are slow, on a GPU above all. The time of the cycle begins behind them.
FIRST_STEPS = 10
PIECE_BYTES = 16 * 2**20 - 2**16
WEIGHTS, STATE = "model.safetensors", "trainer_state.json"


class Clock(TrainerCallback):
    """Moves the cycle of learning rates on by the time that has passed, and ends the training when it is over."""

    def __init__(self, end: float):
        self.begin, self.end = None, end

    @property
    def passed(self) -> float:
        """Share of the cycle, 0 to 1."""
        if self.begin is None:
            return 0.0
        return min(1.0, (perf_counter() - self.begin) / (self.end - self.begin))

    def on_step_begin(self, args, state, control, lr_scheduler=None, **kwargs):
        schedule = getattr(lr_scheduler, "scheduler", lr_scheduler)  # accelerate wraps it
        # one before, since the scheduler goes on by one when the step ends
        schedule.last_epoch = max(schedule.last_epoch, round(self.passed * (TICKS - 1)) - 1)

    def on_step_end(self, args, state, control, **kwargs):
        if self.begin is None and state.global_step == FIRST_STEPS:
            self.begin = perf_counter()
        if perf_counter() >= self.end:
            # a checkpoint has all that `cut` takes; a complete folder would also compute golden tensors, on the CPU
            control.should_training_stop = control.should_save = True


class StepTimes(TrainerCallback):
    """When each step ended, with nothing left to do for the GPU."""

    def __init__(self):
        self.times = []

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(perf_counter())


def make_trainer(arguments: list[str]) -> tuple[PreTrainer, Callable[[], None]]:
    """The trainer of `pretrain.py`, and a function that tells its recorder what the training is."""
    settings = pretrain.parse_arguments([*arguments, "--max_steps", str(TICKS)])
    trainer = pretrain.make_trainer(*settings)
    return trainer, lambda: pretrain.describe(trainer, *settings)


def train(arguments: list[str], minutes: float) -> None:
    trainer, describe = make_trainer(arguments)
    describe()
    trainer.recorder.described["recipe"] |= {"minutes": minutes}
    trainer.add_callback(Clock(BEGIN + 60 * minutes))
    # cuDNN's attention plans anew for each shape, and there are hundreds of shapes
    torch.backends.cuda.enable_cudnn_sdp(False)
    trainer.train()


def measure(arguments: list[str], batches: list[int], steps: int) -> None:
    """Prints windows per second and memory for each size of batch."""
    for batch in batches:
        times = StepTimes()
        options = ["--per_device_train_batch_size", str(batch), "--eval_strategy", "no", "--save_strategy", "no"]
        gc.collect()  # the trainer before this one holds itself in cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            trainer, _ = make_trainer([*arguments, *options])
            trainer.args.max_steps = steps
            trainer.add_callback(times)
            trainer.train()
        except torch.OutOfMemoryError:
            print(f"{batch} windows do not fit", flush=True)
            break
        first = min(FIRST_STEPS, steps - 1)
        seconds = (times.times[-1] - times.times[first - 1]) / (steps - first)
        memory = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"{batch} windows: {seconds:.3f} s a step, {batch / seconds:.0f} windows/s, {memory:.1f} GiB, "
            f"{perf_counter() - BEGIN:.0f} s since the beginning",
            flush=True,
        )
        del trainer


def cut(folder: Path, target: Path) -> None:
    """
    The weights of a checkpoint folder in bfloat16, its configuration, feature extractor, record and log, as pieces of
    a `.tar`, with their SHA-256. Without weights in the folder they are those of its newest `checkpoint-...`.

    Raises:
        FileNotFoundError: where there is neither.
    """
    source = folder if (folder / WEIGHTS).is_file() else last_checkpoint(folder)
    if source is None:
        raise FileNotFoundError(f"There are no weights in {folder}, nor in a checkpoint of it.")
    source = Path(source)
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch) / folder.name
        staged.mkdir()
        for name in (EXTRACTOR_NAME, RECORD_FILE, STATE):
            shutil.copy(source / name, staged)
        config = json.loads((source / "config.json").read_text()) | {"dtype": "bfloat16"}
        (staged / "config.json").write_text(json.dumps(config, indent=2))
        weights = {name: weight.bfloat16() for name, weight in load_file(source / WEIGHTS).items()}
        save_file(weights, staged / WEIGHTS, metadata={"format": "pt"})
        whole = Path(scratch) / "whole.tar"
        with tarfile.open(whole, "w") as archive:
            archive.add(staged, folder.name)
        target.mkdir(parents=True, exist_ok=True)
        sums = []
        with whole.open("rb") as file:
            for number, piece in enumerate(iter(lambda: file.read(PIECE_BYTES), b"")):
                name = f"{folder.name}.part-{number:02d}"
                (target / name).write_bytes(piece)
                sums.append(f"{sha256(piece).hexdigest()}  {name}\n")
    (target / f"{folder.name}.sha256").write_text("".join(sums))
    print(f"{len(sums)} pieces of {source} in {target}")


def complete(folder: Path) -> None:
    """A complete checkpoint folder, from weights, configuration, record and feature extractor."""
    model = NeurIPTForPreTraining.from_pretrained(folder, dtype=torch.bfloat16)
    save_checkpoint(model, NeurIPTFeatureExtractor.from_pretrained(folder), folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    programs = parser.add_subparsers(dest="program", required=True)
    for name in ("train", "measure"):
        program = programs.add_parser(name)
        if name == "train":
            program.add_argument("--minutes", type=float, required=True, help="From the program's beginning.")
        else:
            program.add_argument("--batches", type=int, nargs="+", required=True, help="Windows in a batch.")
            program.add_argument("--steps", type=int, default=25, help="Steps with each.")
    for name in ("cut", "complete"):
        program = programs.add_parser(name)
        program.add_argument("folder", type=Path)
        if name == "cut":
            program.add_argument("target", type=Path)
    options, others = parser.parse_known_args()
    if options.program == "train":
        train(others, options.minutes)
    elif options.program == "measure":
        measure(others, options.batches, options.steps)
    elif others:
        parser.error(f"unknown: {' '.join(others)}")
    elif options.program == "cut":
        cut(options.folder, options.target)
    else:
        complete(options.folder)


if __name__ == "__main__":
    sys.exit(main())
