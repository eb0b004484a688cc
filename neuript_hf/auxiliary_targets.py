"""
What our own pre-training asks of the model beyond the paper. All of it is off by default.

- **Spectrum** (`config.spectral_mean`): the spectrum of each channel in 13 numbers (`training/spectral_target.py`).
- **Time course** (`config.time_course_bins`): the slow course of a window's first second, as evoked potentials have
  it.
- **Compact embedding** (`config.embedding_size`): band power and connectivity of the window, and its slow course by
  lobe, from the few numbers of the embedding, which so learns to hold them.
- **Line** (`config.hidden_fill = "line"`): hidden samples are filled by a straight line in time, and the decoder
  predicts the departure from it.

Spectrum and time course of each channel are read from the time averages of all scales by one linear layer each.
research/LOG.md has what each of them brings.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_neuript import NeurIPTConfig
from .losses import mean_over_processes
from .pooling import mean_over_time
from .token_masks import TokenMasks


# Samples of one bin of the time course: 125 ms at 64 Hz.
BIN_SAMPLES = 8


def head_sizes(config: NeurIPTConfig) -> dict[str, int]:
    """Name and number of outputs of each linear layer that the configuration asks for."""
    sizes = {}
    if config.spectral_mean is not None:
        sizes["spectral_head"] = len(config.spectral_mean)
    if config.time_course_bins is not None:
        sizes["course_head"] = config.time_course_bins
    return sizes


def auxiliary_outputs(
    model: nn.Module,
    scales: list[Tensor],
    masks: list[TokenMasks],
    labels: Tensor | None,
    spectral_targets: Tensor | None,
) -> dict[str, Tensor]:
    """
    Predictions of the heads of [`head_sizes`], and their losses where the true values are given.

    Args:
        model: with the heads and the configuration.
        scales: hidden states `[B, C, L, d]`, with their `masks`.
        labels: true samples, companded, `[B, C, T]`.
        spectral_targets: true spectrum `[B, C, targets]`; its loss leaves out channels that are NaN.

    Raises:
        ValueError: for spectral targets that the configuration does not ask for, or of another shape.
    """
    config = model.config
    if spectral_targets is not None:
        expected = [*scales[0].shape[:2], len(config.spectral_mean or ())]
        if list(spectral_targets.shape) != expected:
            raise ValueError(
                f"spectral_targets must be [B, C, len(config.spectral_mean)] = {expected}, but have shape "
                f"{list(spectral_targets.shape)}."
            )
    if not head_sizes(config):
        return {}
    averages = [mean_over_time(states, mask) for states, mask in zip(scales, masks, strict=True)]
    averages = torch.cat(averages, dim=-1)  # [B, C, scales * d]
    channels, outputs = masks[0].channels, {}
    if config.spectral_mean is not None:
        outputs["spectral_logits"] = model.spectral_head(averages)
        if spectral_targets is not None:
            mean, scale = (
                torch.tensor(numbers, device=averages.device)
                for numbers in (config.spectral_mean, config.spectral_scale)
            )
            targets = (spectral_targets - mean) / scale
            outputs["spectral_loss"] = channel_loss(outputs["spectral_logits"], targets, channels, model.training)
    if config.time_course_bins is not None:
        outputs["time_course_logits"] = model.course_head(averages)
        if labels is not None:
            targets = time_course(labels, masks[0].segments, config.time_course_bins)
            outputs["time_course_loss"] = channel_loss(
                outputs["time_course_logits"], targets, channels, model.training
            )
    return outputs


def embedding_targets_size(config: NeurIPTConfig) -> int:
    """How many numbers are predicted from the compact embedding."""
    course = config.num_pooling_groups * (config.time_course_bins or 0)
    return config.num_connectivity_numbers + course


def embedding_outputs(
    model: nn.Module, encoded: NamedTuple, groups: Tensor | None, labels: Tensor | None
) -> dict[str, Tensor]:
    """
    The compact embedding, what is predicted from it, and the loss where the true samples are given.

    Args:
        model: for pre-training, with a compact embedding.
        encoded: what its encoder made of the windows.
        groups: channels of each lobe, bool `[B or 1, C, G]`.
        labels: true samples, companded, `[B, C, T]`. The targets are the connectivity of these (`connectivity.py`)
            and the mean slow course of each lobe; numbers that are not known do not count.

    Raises:
        ValueError: without groups.
    """
    if groups is None:
        raise ValueError("A compact embedding (config.embedding_size) needs lobe_mask [B, C, num_lobes].")
    encoder, config, masks = model.neuript, model.config, encoded.masks[0]
    block = encoder.connectivity(encoded.signal, masks, groups)
    embedding = encoder.embed(encoder.pool(encoded, groups), block)
    outputs = {"embedding": embedding, "embedding_logits": model.embedding_head(embedding)}
    if labels is None:
        return outputs
    targets, known = [], []
    if (block := encoder.connectivity(labels, masks, groups)) is not None:
        targets.append(block.scaled)
        known.append(block.known)
    if config.time_course_bins is not None:
        course = time_course(labels, masks.segments, config.time_course_bins)
        if masks.channels is not None:
            groups = groups & masks.channels[..., None]
        groups = groups & course.isfinite().all(dim=-1)[..., None]
        weights = groups.to(course.dtype)
        course = torch.einsum("bct,bcg->bgt", course.nan_to_num(), weights)
        course = course / weights.sum(dim=1).clamp(min=1)[..., None]
        targets.append(course.flatten(1))
        known.append(groups.any(dim=1)[..., None].expand_as(course).flatten(1))
    targets, known = torch.cat(targets, dim=1), torch.cat(known, dim=1)
    error = F.mse_loss(outputs["embedding_logits"].float(), targets, reduction="none")
    outputs["embedding_loss"] = mean_over_processes((error * known).sum(), known.sum(), model.training)
    return outputs


def weighted_losses(config: NeurIPTConfig, outputs: dict[str, Tensor]) -> list[Tensor]:
    """What the losses of [`auxiliary_outputs`] and [`embedding_outputs`] add to the training loss."""
    weights = {
        "spectral_loss": config.spectral_loss_weight,
        "time_course_loss": config.time_course_loss_weight,
        "embedding_loss": config.embedding_loss_weight,
    }
    return [weight * outputs[name] for name, weight in weights.items() if name in outputs]


def channel_loss(predictions: Tensor, targets: Tensor, channels: Tensor | None, training: bool) -> Tensor:
    """
    Mean squared error of `[B, C, K]` over the real channels, bool `[B, C]` (`None` = all), whose targets are not NaN.
    """
    known = targets.isfinite().all(dim=-1)
    if channels is not None:
        known = known & channels
    targets = targets.to(predictions.dtype).masked_fill(~known[..., None], 0)
    error = F.mse_loss(predictions, targets, reduction="none").mean(dim=-1)
    return mean_over_processes((error * known).sum(), known.sum(), training)


def time_course(values: Tensor, segments: Tensor | None, bins: int) -> Tensor:
    """
    The slow time course at the start of windows: the means of their first `bins` bins of 8 samples, minus the mean of
    these and divided by the channel's standard deviation there, so that loud and quiet channels count the same.

    It is the shape of an evoked potential, which neither a spectrum nor masked samples require the model to learn.

    Args:
        values: true samples, companded, `[B, C, T]`.
        segments: real samples, bool `[B, T]`, `None` = all.
        bins: number of bins.

    Returns:
        `[B, C, bins]`, NaN where a window is shorter or a channel is constant.
    """
    samples = bins * BIN_SAMPLES
    if values.shape[-1] < samples:
        return values.new_full((*values.shape[:2], bins), torch.nan)
    course = values[..., :samples].unflatten(-1, (bins, BIN_SAMPLES)).mean(dim=-1)
    course = course - course.mean(dim=-1, keepdim=True)
    course = course / values[..., :samples].std(dim=-1, keepdim=True)  # 0 / 0 is NaN
    return course if segments is None else course.masked_fill(~segments[:, None, samples - 1, None], torch.nan)


def fill_linear(values: Tensor, visible: Tensor) -> Tensor:
    """
    A straight line in time between the channel's nearest visible samples; before the first and after the last, its
    value; 0 in channels without a visible sample.

    Args:
        values: `[B, C, T]`; those that are not visible make no difference.
        visible: bool `[B, C, T]`.

    Returns:
        `[B, C, T]` in the type of `values`.
    """
    samples = values.shape[-1]
    places = torch.arange(samples, device=values.device).expand_as(values)
    before = places.masked_fill(~visible, -1).cummax(dim=-1).values
    after = places.masked_fill(~visible, samples).flip(-1).cummin(dim=-1).values.flip(-1)
    nothing = ~visible.any(dim=-1, keepdim=True)
    first, last = torch.where(before < 0, after, before), torch.where(after == samples, before, after)
    first, last = first.masked_fill(nothing, 0), last.masked_fill(nothing, 0)
    share = (places - first).to(values.dtype) / (last - first).clamp(min=1)
    start, end = values.gather(-1, first), values.gather(-1, last)
    filled = (start + share * (end - start)).masked_fill(nothing, 0)
    return torch.where(visible, values, filled)


__all__ = [
    "auxiliary_outputs",
    "channel_loss",
    "embedding_outputs",
    "embedding_targets_size",
    "fill_linear",
    "head_sizes",
    "time_course",
    "weighted_losses",
]
