"""What a program does that torchrun may start as several processes: they train together, and leave in good order."""

import gc
import os

from accelerate import PartialState
from transformers import TrainingArguments


def refuse_apart(training: TrainingArguments) -> None:
    """
    Raises:
        ValueError: where several processes were started, but each would train by itself and all write one folder.
    """
    started, joined = int(os.environ.get("WORLD_SIZE", 1)), training.world_size
    if started != joined:
        raise ValueError(
            f"{started} processes were started, but each would train by itself (Trainer sees {joined}). Without a GPU "
            "say --use_cpu true."
        )


def leave() -> None:
    """
    Ends what joins the processes; the last line of a program, when its trainer is done with and out of reach.

    The threads of a group that still lives when Python ends can abort the process ("terminate called without an active
    exception", pytorch/pytorch#190489), and torchrun then kills the others, one of which may still be saving. They end
    with the last that holds the group: a wrapped model does, too, and is part of cycles that only the collector frees.
    """
    PartialState().destroy_process_group()
    gc.collect()
