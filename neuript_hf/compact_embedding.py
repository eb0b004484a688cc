"""
A window in numbers that have a meaning: the compact embedding (docs/model.md section 20).

Side by side: log power of each lobe in each band and the correlations within and between lobes (`connectivity.py`),
the slow course of the window's first second in each lobe, as evoked potentials have it, and how that course differs
between the right and the left of each lobe. A model with `config.compact_embedding` estimates these numbers, and
pre-training compares the estimates with the numbers of the true samples. Numbers that a window does not have, such as
those of a lobe without channels, are 0.

Letters for shapes: B windows, C channels, T samples, G lobes or other groups, E numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .configuration_neuript import NeurIPTConfig
from .connectivity import Connectivity, connectivity, microvolts_of
from .pooling import MIDLINE_HALF_WIDTH, MIDLINE_X
from .token_masks import TokenMasks


# Samples of one bin of the slow course: 125 ms at 64 Hz.
BIN_SAMPLES = 8


class WindowNumbers(NamedTuple):
    """
    `values [B, E]`, with a mean near 0 and a standard deviation near 1; which of them are `known`, bool; and the
    `connectivity` that is part of them, in its own units.
    """

    values: Tensor
    known: Tensor
    connectivity: Connectivity | None


def window_numbers(
    config: NeurIPTConfig, signal: Tensor, masks: TokenMasks, groups: Tensor, electrode_positions: Tensor | None
) -> WindowNumbers:
    """
    The numbers of windows, from their samples.

    Args:
        signal: companded, `[B, C, T]`.
        masks: real channels and samples.
        groups: channels of each lobe, bool `[B or 1, C, G]`.
        electrode_positions: `[B, C, 3]`, grid units, head frame; without them there are no sides to compare.
    """
    values, known, block = [], [], None
    if (valid := masks.valid()) is not None:  # large numbers in padding or bad channels would become infinite
        signal = signal.masked_fill(~valid, 0.0)
    if config.connectivity_bands is not None:
        microvolts = microvolts_of(signal, config.companding_a)
        block = connectivity(
            microvolts, groups, config.connectivity_bands, masks.channels, masks.segments, config.power_bands
        )
        values.append(block.scaled)
        known.append(block.known)
    if config.time_course_bins is not None:
        course = time_course(signal, masks.segments, config.time_course_bins)
        groups = groups & course.isfinite().all(dim=-1)[..., None]
        if masks.channels is not None:
            groups = groups & masks.channels[..., None]
        left, right = sides(groups, electrode_positions)
        course = course.nan_to_num()
        both = left.any(dim=1) & right.any(dim=1)
        values += [_mean(course, groups), (_mean(course, right) - _mean(course, left)) * both[..., None]]
        known += [present[..., None].expand_as(values[-1]) for present in (groups.any(dim=1), both)]
    values, known = (torch.cat([part.flatten(1) for part in parts], dim=1) for parts in (values, known))
    return WindowNumbers(values, known, block)


def sides(groups: Tensor, electrode_positions: Tensor | None) -> tuple[Tensor, Tensor]:
    """The channels of each group `[B, C, G]` on the left and on the right of the midline."""
    if electrode_positions is None:
        return torch.zeros_like(groups), torch.zeros_like(groups)
    x = electrode_positions[..., 0, None] - MIDLINE_X
    return groups & (x < -MIDLINE_HALF_WIDTH), groups & (x > MIDLINE_HALF_WIDTH)


def _mean(values: Tensor, groups: Tensor) -> Tensor:
    """`[B, C, n]` -> `[B, G, n]`, 0 for a group without channels."""
    weights = groups.to(values.dtype)
    return torch.einsum("bcn,bcg->bgn", values, weights) / weights.sum(dim=1).clamp(min=1)[..., None]


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


def groups_of_numbers(config: NeurIPTConfig) -> Tensor:
    """Which groups each number is about, bool `[E, G]`."""
    groups = torch.eye(config.num_pooling_groups, dtype=torch.bool)
    parts = []
    if config.connectivity_bands is not None:
        first, second = torch.triu_indices(len(groups), len(groups))
        parts.append(groups.repeat_interleave(len(config.power_bands or config.connectivity_bands), dim=0))
        parts.append((groups[first] | groups[second]).repeat_interleave(len(config.connectivity_bands), dim=0))
    if config.time_course_bins is not None:
        parts += 2 * [groups.repeat_interleave(config.time_course_bins, dim=0)]
    return torch.cat(parts)


def names_of_numbers(config: NeurIPTConfig, groups: list[str]) -> list[str]:
    """
    The name of each number, such as `"power, frontal, 8-10 Hz"`.

    Args:
        groups: names of the lobes or other groups.
    """
    first, second = torch.triu_indices(len(groups), len(groups)).tolist()
    pairs = [f"{groups[i]} with {groups[j]}" for i, j in zip(first, second, strict=True)]
    power, bands = (
        [f"{low}-{high} Hz" for low, high in numbers or ()]
        for numbers in (config.power_bands or config.connectivity_bands, config.connectivity_bands)
    )
    names = [f"power, {group}, {band}" for group in groups for band in power]
    names += [f"correlation, {pair}, {band}" for pair in pairs for band in bands]
    bins = [f"{1000 * i * BIN_SAMPLES / 64:g} ms" for i in range(config.time_course_bins or 0)]
    names += [f"course, {group}, {start}" for group in groups for start in bins]
    return names + [f"course right minus left, {group}, {start}" for group in groups for start in bins]


__all__ = [
    "BIN_SAMPLES",
    "WindowNumbers",
    "groups_of_numbers",
    "names_of_numbers",
    "sides",
    "time_course",
    "window_numbers",
]
