"""
What our own pre-training asks of the model beyond the paper. All of it is off by default.

- **Spectrum** (`config.spectral_mean`): the spectrum of each channel in 13 numbers (`training/spectral_target.py`).
- **Time course** (`config.time_course_bins`): the slow course of a window's first second, as evoked potentials have
  it.
- **Compact embedding** (`config.compact_embedding`): band power, connectivity and slow course of the window by lobe.
- **Line** (`config.hidden_fill = "line"`): hidden samples are filled by a straight line in time, and the decoder
  predicts the departure from it.

Spectrum and time course of each channel are read from the time averages of all scales by one linear layer each.
research/LOG.md has what each of them brings.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .compact_embedding import WindowNumbers, time_course
from .configuration_neuript import NeurIPTConfig
from .losses import mean_over_processes
from .pooling import mean_over_time
from .token_masks import TokenMasks


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


def embedding_outputs(embedding: Tensor, targets: WindowNumbers | None, training: bool) -> dict[str, Tensor]:
    """
    The compact embedding `[B, E]` and its loss: the mean squared error of the numbers that are known.

    Args:
        targets: the numbers of the true samples (`compact_embedding.py`); `None` where these are not given.
    """
    outputs = {"embedding": embedding}
    if targets is not None:
        error = (embedding.float() - targets.values).square()
        outputs["embedding_loss"] = mean_over_processes((error * targets.known).sum(), targets.known.sum(), training)
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


__all__ = ["auxiliary_outputs", "channel_loss", "embedding_outputs", "fill_linear", "head_sizes", "weighted_losses"]
