"""Intra-inter lobe pooling, and the groupings that the paper compares it with (spec section 8, paper table 5)."""

import torch
from torch import Tensor

from .configuration_neuript import NeurIPTConfig
from .token_masks import TokenMasks


# Head frame, grid units: the x of the midline, half the width of the band around it that holds only the z electrodes,
# and the y between which the central (C) row lies. The spec names these groupings without numbers; these are ours.
MIDLINE_X, MIDLINE_HALF_WIDTH, CENTRAL_ROW_Y = 23.2, 3.5, (20.0, 30.0)


def channel_groups(
    config: NeurIPTConfig, lobe_mask: Tensor | None, electrode_positions: Tensor | None, num_channels: int
) -> Tensor | None:
    """
    Membership of channels in the groups that the head averages, bool `[B or 1, C, G]`. `None` where the groups are the
    lobes and no `lobe_mask` was given. The groups from coordinates (grid units, head frame) put a midline channel on
    both sides; "coronal" cuts front, centre, back, "sagittal" left, middle, right.
    """
    if config.pooling == "lobes":
        if lobe_mask is not None and lobe_mask.shape[1:] != (num_channels, config.num_lobes):
            raise ValueError(
                f"lobe_mask must have shape [B, C, num_lobes] = [B, {num_channels}, {config.num_lobes}], but has "
                f"{list(lobe_mask.shape)}. Set config.num_lobes to the extractor's num_lobes."
            )
        return lobe_mask
    if config.pooling == "mean":
        return torch.ones(1, num_channels, 1, dtype=torch.bool)
    if config.pooling == "none":
        if num_channels != config.num_lobes:
            raise ValueError(
                f"pooling='none' puts channels side by side: num_lobes must be the number of channels, but num_lobes "
                f"is {config.num_lobes} and the window has {num_channels} channels."
            )
        return torch.eye(num_channels, dtype=torch.bool)[None]
    if electrode_positions is None:
        raise ValueError(f"pooling={config.pooling!r} needs electrode_positions [B, C, 3].")
    x, y = electrode_positions[..., 0] - MIDLINE_X, electrode_positions[..., 1]
    if config.pooling == "hemispheres":
        groups = (x < MIDLINE_HALF_WIDTH, x > -MIDLINE_HALF_WIDTH)
    elif config.pooling == "sagittal":
        groups = (x <= -MIDLINE_HALF_WIDTH, x.abs() < MIDLINE_HALF_WIDTH, x >= MIDLINE_HALF_WIDTH)
    else:
        back, front = CENTRAL_ROW_Y
        groups = (y > front, (y >= back) & (y <= front), y < back)
    return torch.stack(groups, dim=-1)


def mean_over_time(hidden_states: Tensor, masks: TokenMasks) -> Tensor:
    """Mean over valid time: `[B, C, L, d]` -> `[B, C, d]`."""
    if masks.segments is None:
        return hidden_states.mean(dim=2)
    weights = masks.segments.to(hidden_states.dtype)
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.einsum("bcld,bl->bcd", hidden_states, weights)


def lobe_pooling(hidden_states: Tensor, groups: Tensor, masks: TokenMasks) -> Tensor:
    """
    Mean over valid time and over the channels of each group at one scale: `[B, C, L, d]`, `groups [B or 1, C, G]` ->
    `[B, G, d]`. A group without valid channels gives zeros.
    """
    over_time = mean_over_time(hidden_states, masks)
    if masks.channels is not None:
        groups = groups & masks.channels[..., None]
    weights = groups.to(hidden_states.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("bcd,bcg->bgd", over_time, weights.expand(over_time.shape[0], -1, -1))


__all__ = ["channel_groups", "lobe_pooling", "mean_over_time"]
