"""What happens inside the model: who attends to whom, and which experts the tokens use."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers.utils import ModelOutput

from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTForSequenceClassification
from .windows import Group, about_windows, evaluating, grouped, in_order, refuse_unfit, target_names, wanted_targets


# The two halves of a layer, in the order in which they run.
AXES = ("time", "channel")


def attention(
    model: NeurIPTForSequenceClassification,
    windows: Dataset,
    extractor: NeurIPTFeatureExtractor,
    *,
    target: str | None = None,
    reports: Mapping[str, dict] | None = None,
    batch_size: int = 4,
) -> pd.DataFrame:
    """
    How much segments of time attend to each other, and channels, in every layer: means over the heads, over a
    person's windows, and over the channels or the segments.

    Attention says where a layer looks, not what an answer rests on: for that there is [`occlusion`].

    Args:
        model, windows, extractor, target, reports: as in [`occlusion`].
        batch_size: windows that go through the model together; their attention in all layers is in memory at once.

    Returns:
        A table with a row for each person, target, layer, axis and pair: `person`, `target`, `layer` (from 1), `axis`
        (`"time"` or `"channel"`), `query` and `key` (the start of a segment in seconds from the window's, or the name
        of a channel), `value` (the share that the query gives to the key).

    Raises:
        ValueError: as [`occlusion`].
    """
    refuse_unfit(model, windows, extractor, target)
    people, sums = about_windows(windows)["person"], {}
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the only one that returns attention
    try:
        for group, rows, outputs, targets in _passes(model, windows, target, reports, batch_size, "attentions"):
            for layer, (along_time, across_channels) in enumerate(
                zip(outputs.attentions[::2], outputs.attentions[1::2], strict=True)
            ):
                over_channels = along_time.mean(dim=1).unflatten(0, (len(rows), -1))[:, group.good].mean(dim=1)
                over_time = across_channels.mean(dim=1).unflatten(0, (len(rows), -1)).mean(dim=1)
                over_time = over_time[:, group.good][:, :, group.good]
                seconds = np.prod(model.config.merge_sizes[: layer + 1]) / extractor.sampling_rate
                segments = tuple(float(seconds * index) for index in range(over_channels.shape[-1]))
                channels = tuple(group.names[index] for index in group.good)
                for axis, places, maps in zip(AXES, (segments, channels), (over_channels, over_time), strict=True):
                    for row, names, values in zip(rows, targets, maps.double().numpy(), strict=True):
                        for name in names:
                            total, count = sums.get((people[row], name, layer + 1, axis, places), (0.0, 0))
                            sums[people[row], name, layer + 1, axis, places] = (total + values, count + 1)
    finally:
        model.set_attn_implementation(implementation)
    tables = []
    for (person, name, layer, axis, places), (total, count) in sums.items():
        places = np.array(places, dtype=object)
        columns = {"person": person, "target": name, "layer": layer, "axis": axis}
        columns |= {"query": places.repeat(len(places)), "key": np.tile(places, len(places))}
        tables.append(pd.DataFrame(columns | {"total": total.ravel(), "count": count}))
    table = pd.concat(tables)
    # a person whose windows have different good channels has several parts
    table = table.groupby(["person", "target", "layer", "axis", "query", "key"], sort=False).sum().reset_index()
    return table.assign(value=table["total"] / table["count"]).drop(columns=["total", "count"])


def participation(
    model: NeurIPTForSequenceClassification,
    windows: Dataset,
    extractor: NeurIPTFeatureExtractor,
    *,
    target: str | None = None,
    reports: Mapping[str, dict] | None = None,
    batch_size: int = 32,
) -> pd.DataFrame:
    """
    Which experts the tokens of a window use, in every layer that has experts.

    Args:
        model, windows, extractor, target, reports, batch_size: as in [`occlusion`].

    Returns:
        A table with a row for each window, target, layer, half of a layer and expert: `person`, `recording`, `onset`,
        `target`, `layer` (from 1), `axis` (`"time"` or `"channel"`, whose attention comes before), `expert` (from 1),
        `value` (the share of the window's tokens that use it). A token uses several, so that the shares of a block add
        up to more than 1.

    Raises:
        ValueError: as [`occlusion`], and for a model without experts.
    """
    refuse_unfit(model, windows, extractor, target)
    with_experts = [layer for layer, count in enumerate(model.config.num_experts) if count]
    if not with_experts:
        raise ValueError("This model has no experts: num_experts of its configuration is 0 in every layer.")
    about, tables = about_windows(windows), []
    for group, rows, outputs, targets in _passes(model, windows, target, reports, batch_size, "router_logits"):
        blocks = [(layer, axis) for layer in with_experts for axis in AXES]
        for (layer, axis), logits in zip(blocks, outputs.router_logits, strict=True):
            stage = getattr(model.neuript.layers[layer].two_stage_attention, f"{axis}_stage")
            kept = F.one_hot(logits.topk(stage.feed_forward.router.top_k).indices, logits.shape[-1]).sum(dim=1)
            kept = kept.unflatten(0, (len(rows), *_tokens(axis, len(group.names))))
            kept = kept[:, group.good] if axis == "time" else kept[:, :, group.good]
            shares = kept.double().mean(dim=(1, 2)).numpy()  # [B, E]
            count = targets.shape[1] * shares.shape[1]
            table = about.iloc[np.repeat(rows, count)].copy()
            table["target"] = np.repeat(targets.reshape(-1), shares.shape[1])
            table["layer"], table["axis"] = layer + 1, axis
            table["expert"] = np.tile(np.arange(shares.shape[1]) + 1, targets.size)
            table["value"] = np.repeat(shares, targets.shape[1], axis=0).reshape(-1)
            tables.append(table)
    return in_order(tables)


def _tokens(axis: str, channels: int) -> tuple[int, int]:
    """How the tokens of a window lie in a block: channels by segments, or segments by channels."""
    return (channels, -1) if axis == "time" else (-1, channels)


@torch.inference_mode()
def _passes(
    model: NeurIPTForSequenceClassification,
    windows: Dataset,
    target: str | None,
    reports: Mapping[str, dict] | None,
    batch_size: int,
    wanted_output: str,
) -> Iterator[tuple[Group, list[int], ModelOutput, np.ndarray]]:
    """Batches of windows with their numbers, what the model gives for them, on the CPU, and the names of targets."""
    with evaluating(model):
        for group in grouped(model.config, windows, reports):
            for start in range(0, len(group.rows), batch_size):
                part = {name: tensor[start : start + batch_size] for name, tensor in group.batch.items()}
                rows = group.rows[start : start + batch_size]
                outputs = model(
                    **{name: tensor.to(model.device) for name, tensor in part.items()},
                    **{f"output_{wanted_output}": True},
                )
                outputs[wanted_output] = tuple(tensor.cpu() for tensor in outputs[wanted_output])
                wanted = wanted_targets(model, windows.select(rows), target, outputs.logits.float().cpu())
                yield group, rows, outputs, target_names(model.config, wanted)


__all__ = ["attention", "participation"]
