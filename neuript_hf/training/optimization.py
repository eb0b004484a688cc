"""Learning rates of pre-training and fine-tuning: parameter groups and a schedule for `Trainer`."""

import re
from collections import defaultdict

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from transformers.trainer_pt_utils import get_parameter_names

from ..modeling_neuript import NeurIPTPreTrainedModel


# Matches encoder layers, also of wrapped models; the decoder's layers have another name.
ENCODER_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def layerwise_parameter_groups(
    model: NeurIPTPreTrainedModel, learning_rate: float, decay: float, weight_decay: float = 0.0
) -> list[dict]:
    """
    Parameter groups with layer-wise learning rates: a classifier or decoder has the full rate, the last encoder layer
    `decay` times that, each layer below it `decay` times the rate of the layer above, and the embeddings the lowest.
    General features of signals then change less than those near the task. Frozen parameters are left out.

    With `Trainer`, which keeps these groups and sets up the optimizer from its arguments:

        optimizer, settings = Trainer.get_optimizer_cls_and_kwargs(training_arguments)
        settings["params"] = layerwise_parameter_groups(model, training_arguments.learning_rate, 0.8)
        NeurIPTTrainer(model=model, args=training_arguments, optimizer_cls_and_kwargs=(optimizer, settings), ...)

    Args:
        model: a classifier, a pre-training model, or one with adapters.
        learning_rate: of classifier or decoder.
        decay: factor from layer to layer, above 0 and at most 1; 1 = the same rate everywhere.
        weight_decay: of weights; biases and norms have none, as in `Trainer`.

    Returns:
        The groups, the highest rate first: `Trainer` logs the rate of the first group.

    Raises:
        ValueError: for another `decay`, or where nothing is left to train.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be above 0 and at most 1 (the same rate everywhere), but is {decay}.")
    decayed = set(get_parameter_names(model, [nn.LayerNorm], ["bias"]))
    depths = model.config.num_hidden_layers + 1  # embeddings at 0, layers, classifier or decoder
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        layer = ENCODER_LAYER.search(name)
        depth = int(layer[1]) + 1 if layer else 0 if "embeddings." in name else depths
        if parameter.requires_grad:
            groups[learning_rate * decay ** (depths - depth), name in decayed].append(parameter)
    if not groups:
        raise ValueError("Expected a model with parameters to train, but all its parameters are frozen.")
    return [
        {"params": groups[rate, decays], "lr": rate, "weight_decay": weight_decay if decays else 0.0}
        for rate, decays in sorted(groups, reverse=True)
    ]


def one_cycle_schedule(optimizer: torch.optim.Optimizer, num_training_steps: int) -> OneCycleLR:
    """
    The paper's learning rates (docs/model.md section 9): a cosine from 1/25 of each group's rate up to that rate over
    the first 15 % of the steps, then a cosine down to 1/25 * 1e-4 of it at the last step. Momentum is constant.

    A resumed run keeps its original number of steps, since the schedule's state is in the checkpoint.

    Args:
        optimizer: the `lr` of its groups is their highest rate.
        num_training_steps: steps of the whole training.

    Raises:
        ValueError: where `num_training_steps` is not a positive integer.
    """
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=num_training_steps,
        pct_start=0.15,
        div_factor=25.0,
        final_div_factor=1e4,
        cycle_momentum=False,
    )


__all__ = ["layerwise_parameter_groups", "one_cycle_schedule"]
