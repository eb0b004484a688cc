"""What a program does that torchrun may start as several processes: they train together, and leave in good order."""

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
    Ends what joins the processes; the last line of a program, after all that needs the others.

    A process that ends without it is at times aborted by threads that still run ("terminate called without an active
    exception", pytorch/pytorch#190489), and torchrun then kills the one that is still saving.
    """
    PartialState().destroy_process_group()
