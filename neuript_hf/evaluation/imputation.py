"""
Simple ways to fill hidden samples: what a pre-trained model has to beat (docs/model.md section 7).

All work on windows `[B, C, T]` in the scale of the errors: companded, as in the pre-training loss, or microvolts. The
best filler in one scale is not the best in the other, since a small companded error is a large one in microvolts. Each
keeps the samples that `visible` marks and fills all others: hidden ones, but also padding and bad channels, where the
result is meaningless. With nothing visible to go by it fills in 0, the ridge the training people's mean.

| filler | looks at |
|---|---|
| [`fill_channel_mean`] | the channel itself, at all times |
| [`fill_linear`] | the channel itself, the nearest visible samples before and after |
| [`fill_ridge`] | the other channels at the same instant, by the covariance of training people |
| [`fill_spline`] | the other channels at the same instant, by their positions on the head |
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial.legendre import legval
from torch import Tensor

from ..auxiliary_targets import fill_linear
from ..electrodes import HEAD_CENTRE, HEAD_ORIGIN, HEAD_SCALE


# Share of the channels' mean variance that is added to each. Of eight values from 1e-6 to 0.3 this is the best for
# amplitude masks, cross-validated over the training people of five data sets; for random masks it is within 1 %.
RIDGE = 0.1
# Spherical splines with MNE's settings: order, Legendre terms, and what is added to the diagonal.
SPLINE_ORDER, SPLINE_TERMS, SPLINE_RIDGE = 4, 50, 1e-5
# Most numbers in the systems of equations that are solved at once: 64 MiB of float64.
SOLVED_AT_ONCE = 2**23


def fill_channel_mean(values: Tensor, visible: Tensor) -> Tensor:
    """
    The mean of the channel's visible samples.

    Args:
        values: `[B, C, T]`; invisible ones make no difference.
        visible: bool `[B, C, T]`.

    Returns:
        `[B, C, T]` of the dtype of `values`.
    """
    total = values.masked_fill(~visible, 0).sum(dim=-1, keepdim=True)
    return torch.where(visible, values, total / visible.sum(dim=-1, keepdim=True).clamp(min=1))


class ChannelStatistics(NamedTuple):
    """How the channels of a montage covary: `mean [C]` and `covariance [C, C]` of samples, float64."""

    mean: Tensor
    covariance: Tensor


def channel_statistics(values: Tensor, real: Tensor) -> ChannelStatistics:
    """
    Mean and covariance over all instants of training windows: the fit of [`fill_ridge`].

    A sample that is not real counts as its channel's mean. So a channel that is bad in many windows is trusted less,
    and the result is still a covariance.

    Args:
        values: windows of one montage, `[N, C, T]`.
        real: bool `[N, C, T]`, [`real_samples`].

    Raises:
        ValueError: where a channel has no real sample, or is constant.
    """
    counts = real.sum(dim=(0, 2))
    values = values.double().masked_fill(~real, 0)
    mean = values.sum(dim=(0, 2)) / counts
    deviations = (values - mean[:, None]).masked_fill(~real, 0).transpose(0, 1).flatten(1)
    covariance = deviations @ deviations.T / real.any(dim=1).sum()
    if (flat := torch.nonzero(~(covariance.diagonal() > 0)).flatten()).numel():
        raise ValueError(
            f"Channels number {flat.tolist()} are bad or flat in all {len(values)} training windows, so nothing can "
            "be fitted for them. Leave them out of the montage, or give more windows."
        )
    return ChannelStatistics(mean, covariance)


def fill_ridge(values: Tensor, visible: Tensor, statistics: ChannelStatistics) -> Tensor:
    """
    Ridge regression from the other channels at the same instant, fitted to training people.

    The visible channels change from instant to instant, so each pattern gets its own regression: the mean of the
    hidden channels given the visible ones, `m_h + S_hv (S_vv + r I)^-1 (x_v - m_v)`, all from one covariance S (r is a
    tenth of the mean variance). Apart from r, no linear filler that looks at one instant has a smaller squared error
    on signals of this covariance, whatever the pattern.

    Args:
        values: windows with the montage and the scale of the fit, `[B, C, T]`.
        visible: bool `[B, C, T]`.
        statistics: of training people, from [`channel_statistics`].

    Raises:
        ValueError: where the number of channels differs from the fit's.
    """
    mean, covariance = statistics
    if values.shape[1] != len(mean):
        raise ValueError(
            f"The windows have {values.shape[1]} channels, the fit {len(mean)}. Fit each montage separately."
        )
    ridge = RIDGE * covariance.diagonal().mean()
    kernels = covariance.expand(len(values), -1, -1)
    centred = values.double() - mean[:, None]
    filled = _fill_from_instant(centred, visible, kernels, ridge, unknown_level=False) + mean[:, None]
    return torch.where(visible, values, filled.to(values.dtype))


def fill_spline(values: Tensor, visible: Tensor, electrode_positions: Tensor) -> Tensor:
    """
    Spherical splines through the visible channels at the same instant, as in MNE's `interpolate_bads` (Perrin et al.
    1989). Needs no fit. Only for single electrodes with a common reference: a pair has no position of its own.

    Args:
        values: `[B, C, T]`.
        visible: bool `[B, C, T]`.
        electrode_positions: grid units of the head frame (docs/model.md section 3), `[B, C, 3]`.
    """
    origin = torch.as_tensor(HEAD_ORIGIN - HEAD_CENTRE, device=values.device)
    directions = torch.nn.functional.normalize(electrode_positions.double() / HEAD_SCALE + origin, dim=-1)
    cosines = (directions @ directions.transpose(1, 2)).clamp(-1, 1)
    orders = np.arange(1, SPLINE_TERMS + 1)
    terms = (2 * orders + 1) / ((orders * (orders + 1.0)) ** SPLINE_ORDER * 4 * np.pi)
    kernels = torch.as_tensor(legval(cosines.cpu().numpy(), [0, *terms]), device=values.device)
    filled = _fill_from_instant(values.double(), visible, kernels, SPLINE_RIDGE, unknown_level=True)
    return torch.where(visible, values, filled.to(values.dtype))


def _fill_from_instant(
    values: Tensor, visible: Tensor, kernels: Tensor, ridge: float | Tensor, unknown_level: bool
) -> Tensor:
    """
    `K_hv (K_vv + ridge I)^-1 x_v` at each instant, float64 `[B, C, T]`; meant for hidden samples.

    Hidden channels become rows of the identity with 0 on the right-hand side, so that the systems of all patterns have
    one size and many are solved at once. With an unknown level `l`, `x_v - l` replaces `x_v`, and l makes the solution
    sum to 0: it is the constant of a spline, which is not penalised.

    Args:
        kernels: `[B, C, C]`, positive semidefinite.
    """
    windows, channels, samples = values.shape
    filled = torch.zeros_like(values)
    incomplete = torch.nonzero(~visible.all(dim=1))  # [instants, 2]: window, sample
    unit = torch.eye(channels, dtype=values.dtype, device=values.device)
    for instants in incomplete.split(max(1, SOLVED_AT_ONCE // channels**2)):
        window, sample = instants.unbind(dim=1)
        seen = visible[window, :, sample]
        kernel = kernels[window]
        pairs = seen[:, :, None] & seen[:, None, :]
        systems = torch.where(pairs, kernel + ridge * unit, unit)
        known = torch.stack([values[window, :, sample].masked_fill(~seen, 0), seen.to(values.dtype)], dim=-1)
        weights, of_level = torch.cholesky_solve(known, torch.linalg.cholesky(systems)).unbind(dim=-1)
        level = torch.zeros_like(weights[:, :1])
        if unknown_level:
            divisor = of_level.sum(dim=1, keepdim=True)
            level = weights.sum(dim=1, keepdim=True) / divisor.where(divisor > 0, 1)
            weights = weights - level * of_level
        filled[window, :, sample] = (kernel @ weights[..., None])[..., 0] + level
    return filled


__all__ = ["ChannelStatistics", "channel_statistics", "fill_channel_mean", "fill_linear", "fill_ridge", "fill_spline"]
