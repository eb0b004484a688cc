"""For programs that torchrun may start as several processes: they train together and exit cleanly."""

import gc
import os

from accelerate import PartialState
from transformers import TrainingArguments


def refuse_apart(training: TrainingArguments) -> None:
    """
    Raises:
        ValueError: where several processes were started that would each train alone and all write to one folder.
    """
    started, joined = int(os.environ.get("WORLD_SIZE", 1)), training.world_size
    if started != joined:
        raise ValueError(
            f"{started} processes were started, but each would train by itself (Trainer sees {joined}). Without a "
            "GPU, add --use_cpu true."
        )


def leave() -> None:
    """
    Ends the process group. Call it as the last line of a program, when its trainer is out of scope.

    Threads of a group that is still alive when Python ends can abort the process ("terminate called without an active
    exception", pytorch/pytorch#190489), and torchrun then kills the others, one of which may still be saving. The
    threads end with the last reference to the group, which wrapped models also hold, in cycles that only the garbage
    collector frees.
    """
    PartialState().destroy_process_group()
    gc.collect()


__all__ = ["leave", "refuse_apart"]
