"""
Integrated gradients of a classifier's score, by captum (the extra `explain`).

The gradient along the straight way from another window to this one says what makes the answers for the two differ. A
window of zeros, the usual start, will not do: the embedding has the logarithm of band power, whose gradient grows
without limit near silence, and it is unlike any EEG. Other windows have power like this one. The way between them
still jumps where another expert takes over, so how well the parts add up is measured for each window.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor
from transformers.utils import logging
from transformers.utils.logging import tqdm

from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTForSequenceClassification
from .occlusion import stretches
from .windows import (
    Group,
    about_windows,
    evaluating,
    grouped,
    in_order,
    logits_of,
    refuse_unfit,
    rows_of,
    target_names,
    target_scores,
    wanted_targets,
)


logger = logging.get_logger(__name__)


class Gradients(NamedTuple):
    """
    Integrated gradients of windows.

    Args:
        table: as [`occlusion`] gives it, with the kinds `"channel"` and `"time"`. The values of one kind add up to the
            difference between the score of a window and the mean score of the references.
        completeness: how well they do: `person`, `recording`, `onset`, `target`, the `difference` of the scores, the
            `sum` of the values.
        error: mean distance of sums and differences, as a share of the mean size of the differences.
    """

    table: pd.DataFrame
    completeness: pd.DataFrame
    error: float


def integrated_gradients(
    model: NeurIPTForSequenceClassification,
    windows: Dataset,
    extractor: NeurIPTFeatureExtractor,
    references: Dataset | None = None,
    *,
    num_references: int = 4,
    steps: int = 32,
    step_seconds: float = 0.5,
    target: str | None = None,
    reports: Mapping[str, dict] | None = None,
    tolerance: float = 0.1,
    batch_size: int = 32,
    seed: int = 0,
) -> Gradients:
    """
    By which channels and times the score of each window's target differs from its score for other windows.

    Args:
        model, windows, extractor, step_seconds, target, reports, batch_size: as in [`occlusion`].
        references: windows to start from, with the same good channels and length; default the windows themselves.
        num_references: how many of them are drawn for each window; attributions are means over them.
        steps: points on each way.
        tolerance: an error above this share is warned of.
        seed: of the draw.

    Raises:
        ImportError: without captum.
        ValueError: as [`occlusion`], and where no reference has the channels of a window.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise ImportError("Integrated gradients need captum: pip install 'neuript_hf[explain]'.") from error
    refuse_unfit(model, windows, extractor, target)
    about, rate = about_windows(windows), extractor.sampling_rate
    groups = grouped(model.config, windows, reports)
    pools = groups if references is None else grouped(model.config, references, reports)
    pools = {_channels_and_length(pool): pool.batch["input_values"] for pool in pools}
    for group in groups:
        pool = pools.get(_channels_and_length(group), ())
        if len(pool) < (2 if references is None else 1):
            raise ValueError(
                f"No other window has the good channels of window {group.rows[0]}, {', '.join(group.names)}. Give "
                "references that have them, such as the windows of training."
            )
    rng = np.random.default_rng(seed)
    parts, sums = [], []
    with evaluating(model), tqdm(total=len(windows), desc="integrated gradients", leave=False) as bar:
        for group in groups:
            signals, pool = group.batch["input_values"], pools[_channels_and_length(group)]
            whole = logits_of(model, [group.batch], batch_size)[0]
            wanted = wanted_targets(model, windows.select(group.rows), target, whole)
            names = target_names(model.config, wanted)
            found, differences = [], []
            for place in range(len(group.rows)):
                others = [index for index in range(len(pool)) if references is not None or index != place]
                drawn = pool[rng.choice(others, min(num_references, len(others)), replace=False)]
                one = {name: tensor[place : place + 1] for name, tensor in group.batch.items()}
                maps, difference = _of_one(IntegratedGradients, model, one, drawn, wanted[place], steps, batch_size)
                found.append(maps)
                differences.append(difference)
                bar.update()
            maps, differences = torch.stack(found), torch.stack(differences)  # [B, S, C, T], [B, S]
            here = about.iloc[group.rows]
            by_channel = maps.sum(dim=-1).permute(2, 0, 1)[group.good]
            channels = [(group.names[index], np.nan, np.nan) for index in group.good]
            parts.append(rows_of(here, names, "channel", channels, by_channel.numpy()))
            cuts = stretches(signals.shape[-1], rate, step_seconds)
            by_time = torch.stack([maps[..., start:stop].sum(dim=(-2, -1)) for start, stop in cuts])
            named = [(f"{a / rate:g}-{b / rate:g} s", a / rate, b / rate) for a, b in cuts]
            parts.append(rows_of(here, names, "time", named, by_time.numpy()))
            sums.append(
                here.iloc[np.repeat(np.arange(len(here)), names.shape[1])].assign(
                    target=names.reshape(-1),
                    difference=differences.reshape(-1).double().numpy(),
                    sum=maps.sum(dim=(-2, -1)).reshape(-1).double().numpy(),
                )
            )
    completeness = in_order(sums)
    distance = (completeness["sum"] - completeness["difference"]).abs().mean()
    error = float(distance / completeness["difference"].abs().mean())
    if not error <= tolerance:
        logger.warning(
            f"The values of integrated gradients miss the differences that they should add up to by {error:.0%}. Take "
            f"more steps than {steps}, or other references; as it is, the map is approximate."
        )
    return Gradients(in_order(parts), completeness, error)


def _channels_and_length(group: Group) -> tuple:
    return tuple(group.names), tuple(group.good), group.batch["input_values"].shape[-1]


def _of_one(
    method: Any,
    model: NeurIPTForSequenceClassification,
    window: Mapping[str, Tensor],
    references: Tensor,
    wanted: Tensor,
    steps: int,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """
    Attributions `[S, C, T]` of one window, mean over the references `[R, C, T]`, and the differences of the scores
    that they should add up to, `[S]`.
    """
    device, count = model.device, len(references)
    rest = {name: tensor.to(device) for name, tensor in window.items() if name != "input_values"}
    signal, references = window["input_values"].to(device), references.to(device)
    wanted = wanted[None].to(device)

    def scores(signals: Tensor) -> Tensor:
        batch = {name: tensor.expand(len(signals), *tensor.shape[1:]) for name, tensor in rest.items()}
        logits = model(input_values=signals, **batch).logits
        return target_scores(model.config, logits.float(), wanted.expand(len(signals), *wanted.shape[1:]))

    with torch.no_grad():
        both = scores(torch.cat([signal, references]))
    maps = [
        method(lambda signals, number=number: scores(signals)[:, number])
        .attribute(signal.repeat(count, 1, 1), references, n_steps=steps, internal_batch_size=max(batch_size, count))
        .mean(dim=0)
        for number in range(both.shape[1])
    ]
    return torch.stack(maps).detach().cpu(), (both[0] - both[1:].mean(dim=0)).cpu()


__all__ = ["Gradients", "integrated_gradients"]
