"""
What test_ecosystem.py compares between one process and two; started there by

    torchrun --nproc_per_node 2 tests/distributed_step.py FOLDER

Rank 0 writes what it has found into FOLDER.
"""

import os
import sys
from functools import partial
from pathlib import Path

import torch
from conftest import gradients_of, make_batch, small_config
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from transformers import PreTrainedModel, TrainingArguments, default_data_collator

from neuript_hf import NeurIPTForPreTraining, NeurIPTForSequenceClassification, NeurIPTTrainer


STEPS = 50
MODELS = {"classifier": NeurIPTForSequenceClassification, "pretraining": NeurIPTForPreTraining}
SIZES = {"num_hidden_layers": 2, "merge_sizes": [1, 2], "num_experts": [0, 2]}
ACCUMULATED = {"max_steps": 4, "means": True}
SPECTRUM = {"spectral_mean": [0.0] * 3, "spectral_scale": [1.0] * 3}


def make_model(kind: str, **kwargs) -> PreTrainedModel:
    """The same weights in every process; no dropout, no noise."""
    torch.manual_seed(0)
    model = MODELS[kind](small_config(**(SIZES | (SPECTRUM if kind == "pretraining" else {}) | kwargs)))
    model.set_experts_implementation("eager")
    return model


def make_windows(kind: str, count: int) -> dict[str, Tensor]:
    """
    With labels. Windows have different numbers of real channels and, in pre-training, of selected samples, so that the
    mean of the means of a batch's parts is not the mean of the whole batch.
    """
    batch = make_batch(windows=count)
    batch["channel_mask"] = torch.arange(5) < 2 + torch.arange(count)[:, None] % 4
    if kind == "classifier":
        return batch | {"labels": torch.arange(count) % 3}
    generator = torch.Generator().manual_seed(1)
    order = torch.rand(count, batch["input_values"][0].numel(), generator=generator).argsort(-1)
    selected = 15 * torch.arange(1, count + 1)[:, None] % 100
    masked = (order < selected).view_as(batch["input_values"])
    return batch | {
        "masked_positions": masked,
        "hidden_positions": masked,
        "labels": batch["input_values"].clone(),
        "spectral_targets": torch.randn(count, 5, 3, generator=generator),
    }


def train(
    kind: str, batch_size: int, folder: str, means: bool = False, **kwargs
) -> tuple[list[float], dict[str, Tensor]]:
    """
    Losses of the steps and weights at the end, with `batch_size` windows for each process and step. `means` leaves out
    what is not a mean over windows or selected samples: the experts' auxiliary loss and the error of the spectrum.
    """
    windows = make_windows(kind, 16)
    if means:
        windows.pop("spectral_targets", None)
    settings = {
        "output_dir": folder,
        "use_cpu": True,
        "per_device_train_batch_size": batch_size,
        "max_steps": STEPS,
        "logging_steps": 1,
        # Adam would make whole steps from gradients that are nothing but rounding, and the processes round differently
        "optim": "sgd",
        "learning_rate": 1e-2,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    trainer = NeurIPTTrainer(
        model=make_model(kind, **({"router_aux_loss_coef": 0.0} if means else {})),
        args=TrainingArguments(**(settings | kwargs)),
        train_dataset=[{name: tensor[index] for name, tensor in windows.items()} for index in range(16)],
        data_collator=default_data_collator,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], trainer.model.state_dict()


def sharded_step(kind: str, version: int) -> tuple[float, dict[str, Tensor]]:
    """Mean loss and whole gradients of one step on four windows, weights sharded by `_no_split_modules`."""
    model = make_model(kind)
    windows = make_windows(kind, 4)
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    part = {name: tensor.chunk(processes)[rank] for name, tensor in windows.items()}
    units = {type(module) for module in model.modules() if type(module).__name__ in model._no_split_modules}
    if version == 1:
        policy = partial(transformer_auto_wrap_policy, transformer_layer_cls=units)
        model = FullyShardedDataParallel(
            model, auto_wrap_policy=policy, use_orig_params=True, device_id=torch.device("cpu")
        )
    else:
        for module in [module for module in model.modules() if type(module) in units]:
            fully_shard(module)
        fully_shard(model)
    loss = model(**part).loss
    loss.backward()
    total = loss.detach().clone()
    distributed.all_reduce(total)
    return (total / processes).item(), whole_gradients(model)


def whole_gradients(model: nn.Module) -> dict[str, Tensor]:
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model, with_grads=True):
            return {name.replace("_fsdp_wrapped_module.", ""): grad for name, grad in gradients_of(model).items()}
    return {name: gradient.full_tensor() for name, gradient in gradients_of(model).items()}


def main(folder: Path) -> None:
    distributed.init_process_group("gloo")
    results = {("fsdp", kind, version): sharded_step(kind, version) for kind in MODELS for version in (1, 2)}
    for kind in MODELS:
        results["trainer", kind] = train(kind, 2, str(folder))
        results["accumulated", kind] = train(kind, 2, str(folder), gradient_accumulation_steps=2, **ACCUMULATED)
    if distributed.get_rank() == 0:
        torch.save(results, folder / "results.pt")
    distributed.barrier()
    sys.stdout.flush()
    os._exit(0)  # torch keeps what `fully_shard` was given, so the group's threads would live to abort Python's end


if __name__ == "__main__":
    main(Path(sys.argv[1]))
