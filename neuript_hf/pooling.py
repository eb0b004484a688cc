"""Intra-inter lobe pooling, and the groupings that the paper compares it with (docs/model.md section 8, table 5)."""

import torch
from torch import Tensor

from .configuration_neuript import NeurIPTConfig
from .token_masks import TokenMasks


# Head frame, grid units: x of the midline, and half the width of the band around it that only the z electrodes lie in.
MIDLINE_X, MIDLINE_HALF_WIDTH = 23.2, 3.5
# Groups that a coronal or sagittal cut makes.
NUM_STRIPS = 5

# fmt: off
# The authors' channel groups by `part` of their launch arguments and by number of channels, which is how their code
# chooses them. 20 is `double_banana`, 22 the same with A1-T7 and T8-A2, 17 `seed_v`, 16 `bcic_iv_2a`, 3 and 2
# `bcic_iv_2b` with and without Cz.
AUTHORS_GROUPS = {
    "Hemispheres": {
        22: [[0, 1, 2, 3, 8, 9, 10, 14, 15, 16, 17], [4, 5, 6, 7, 11, 12, 13, 18, 19, 20, 21]],
        20: [[0, 1, 2, 3, 8, 9, 12, 13, 14, 15], [4, 5, 6, 7, 10, 11, 16, 17, 18, 19]],
        17: [[0, 2, 3, 6, 7, 8, 11, 12, 15], [1, 4, 5, 8, 9, 10, 13, 14, 16]],
        16: [[0, 1, 4, 5, 6, 7, 8, 9], [2, 3, 10, 11, 12, 13, 14, 15]],
        3: [[0, 1, 2]],
        2: [[0, 1]],
    },
    "Sagittal": {
        22: [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12, 13], [14, 15, 16, 17], [18, 19, 20, 21]],
        20: [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]],
    },
    "Coronal": {
        22: [[0, 4, 14, 18], [1, 5, 15, 19], [2, 6, 16, 20], [3, 7, 17, 21], [8, 9, 10, 11, 12, 13]],
        20: [[0, 4, 12, 16], [1, 5, 13, 17], [2, 6, 14, 18], [3, 7, 15, 19], [8, 9, 10, 11]],
    },
    "Functional": {
        22: [[0, 4, 14, 18], [9, 10, 11, 12, 15, 16, 19, 20], [3, 7, 17, 21], [1, 2, 8, 9], [5, 6, 12, 13]],
        20: [[0, 4, 12, 16], [8, 9, 10, 11, 13, 14, 17, 18], [3, 7, 15, 19], [1, 2, 8], [5, 6, 11]],
        17: [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]],
        16: [[4, 7, 10, 13], [0, 1, 2, 3], [5, 6, 8, 9], [11, 12, 14, 15]],
        3: [[0], [1], [2]],
        2: [[0], [1]],
    },
}
# fmt: on


def channel_groups(
    config: NeurIPTConfig,
    lobe_mask: Tensor | None,
    electrode_positions: Tensor | None,
    num_channels: int,
    channels: Tensor | None = None,
) -> Tensor | None:
    """
    Membership of channels in the groups that the head averages, bool `[B or 1, C, G]`; `None` if the groups are the
    lobes and there is no `lobe_mask`.

    The groups by coordinates: "hemispheres" are left and right, with the midline on both sides; "sagittal" cuts the
    window's channels into five strips of equal numbers from left to right, "coronal" from front to back.

    Args:
        lobe_mask: bool `[B, C, num_lobes]`.
        electrode_positions: `[B, C, 3]`, grid units, head frame.
        channels: real and good channels, bool `[B, C]`; `None` = all. Only these are cut into strips.

    Raises:
        ValueError: if what the configuration's pooling needs is missing or does not fit.
    """
    if config.channel_groups is not None:
        numbers = [number for group in config.channel_groups for number in group]
        if max(numbers) + 1 != num_channels:
            raise ValueError(
                f"config.channel_groups are for windows of {max(numbers) + 1} channels, but this one has "
                f"{num_channels}. Use the montage that they were made for, or set channel_groups to None."
            )
        groups = torch.zeros(1, num_channels, len(config.channel_groups), dtype=torch.bool)
        for index, group in enumerate(config.channel_groups):
            groups[0, list(group), index] = True
        return groups
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
    if config.pooling == "hemispheres":
        x = electrode_positions[..., 0] - MIDLINE_X
        return torch.stack((x < MIDLINE_HALF_WIDTH, x > -MIDLINE_HALF_WIDTH), dim=-1)
    return strips(electrode_positions, channels, front_to_back=config.pooling == "coronal")


def strips(electrode_positions: Tensor, channels: Tensor | None, front_to_back: bool) -> Tensor:
    """Five groups of as equal numbers as possible, from left to right or from front to back: bool `[B, C, 5]`."""
    x, y, z = electrode_positions.unbind(-1)
    first, second = (-y, x) if front_to_back else (x, -y)
    # the other axes decide between channels that are level, so that the order of channels makes no difference
    place = first + second / 2**8 + z / 2**16
    if channels is None:
        channels = torch.ones_like(place, dtype=torch.bool)
    place = place.masked_fill(~channels, torch.inf)
    rank = place.argsort(dim=-1, stable=True).argsort(dim=-1)
    number = rank * NUM_STRIPS // channels.sum(dim=-1, keepdim=True).clamp(min=1)
    return (number[..., None] == torch.arange(NUM_STRIPS, device=number.device)) & channels[..., None]


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


__all__ = ["AUTHORS_GROUPS", "channel_groups", "lobe_pooling", "mean_over_time"]
