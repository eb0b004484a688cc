"""
Band power and connectivity of a window by lobe, without weights (docs/model.md section 19).

A short-time Fourier transform, as a convolution with windowed waves of 1, 2, ... Hz, gives the cross-spectra of all
channels. In a band, their real part over the root of both powers is the correlation of the two filtered signals. Log
power is averaged over the channels of each lobe, Fisher's z of the correlations over the pairs of channels within a
lobe and between two lobes, so every montage has the same numbers. All of it can be differentiated and exported.

Letters for shapes: B windows, C channels, T samples, G lobes or other groups, M bands of power, N of correlation,
P = G (G + 1) / 2 pairs of groups, F frequencies, S segments.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


SAMPLING_RATE = 64
# Segments of one second, so that frequencies are 1 Hz apart and windows of a second have one; a quarter of it apart.
SEGMENT_SAMPLES, STEP_SAMPLES = 64, 16
# Square microvolts, added so that the logarithm of a flat channel is finite.
POWER_FLOOR = 1e-3
# Fisher's z of 1 is infinite; copies of a channel have this correlation.
HIGHEST_CORRELATION = 0.99
# Over the windows that our weights were trained on, so that a network gets numbers near 1.
LOG_POWER_MEAN, LOG_POWER_SCALE, CORRELATION_SCALE = 2.0, 1.8, 0.6


class Connectivity(NamedTuple):
    """
    Band power and connectivity of windows. Where a group or a pair of groups has no channels, the number is 0 and not
    known.

    Args:
        log_power: mean log of square microvolts of each group in each band, `[B, G, M]`.
        correlation: mean Fisher z of the channels of each pair of groups, `[B, P, N]`, in the order
            (0, 0), (0, 1), ..., (1, 1), ...
        known_groups: groups that have a channel, bool `[B, G]`.
        known_pairs: pairs of groups that have two different channels, bool `[B, P]`.
    """

    log_power: Tensor
    correlation: Tensor
    known_groups: Tensor
    known_pairs: Tensor

    @property
    def numbers(self) -> Tensor:
        """Log power, then Fisher z, side by side: `[B, G M + P N]`."""
        return _side_by_side(self.log_power, self.correlation)

    @property
    def scaled(self) -> Tensor:
        """The same numbers with a mean near 0 and a standard deviation near 1; 0 where they are not known."""
        log_power = (self.log_power - LOG_POWER_MEAN) / LOG_POWER_SCALE
        return _side_by_side(log_power * self.known_groups[..., None], self.correlation / CORRELATION_SCALE)

    @property
    def known(self) -> Tensor:
        """Which of the numbers are known, bool `[B, G M + P N]`."""
        groups = self.known_groups[..., None].expand_as(self.log_power)
        return _side_by_side(groups, self.known_pairs[..., None].expand_as(self.correlation))


def _side_by_side(groups: Tensor, pairs: Tensor) -> Tensor:
    return torch.cat((groups.flatten(1), pairs.flatten(1)), dim=1)


def connectivity_size(num_groups: int, num_power_bands: int, num_bands: int) -> int:
    """How many numbers a window has."""
    return num_groups * num_power_bands + num_groups * (num_groups + 1) // 2 * num_bands


def microvolts_of(values: Tensor, companding_a: float | None) -> Tensor:
    """The inverse of the feature extractor's A-law (docs/model.md section 2.3); `None` = values are microvolts."""
    values = values.float()
    if companding_a is None:
        return values
    scaled = values.abs() * (math.e + math.log(companding_a))
    return values.sign() * torch.where(scaled < 1, scaled, (scaled.clamp(min=1) - 1).exp()) / companding_a


def connectivity(
    microvolts: Tensor,
    groups: Tensor,
    bands: Sequence[Sequence[int]],
    channels: Tensor | None = None,
    samples: Tensor | None = None,
    power_bands: Sequence[Sequence[int]] | None = None,
) -> Connectivity:
    """
    Band power and connectivity by group.

    Args:
        microvolts: `[B, C, T]`, at 64 Hz.
        groups: channels of each group, bool `[B or 1, C, G]`.
        bands: `[low, high)` of each band in whole hertz.
        channels: real and good channels, bool `[B, C]`, `None` = all; others do not count.
        samples: real samples, bool `[B, T]`, `None` = all; padding is on the right.
        power_bands: the same for power, if they are others.
    """
    groups = groups.expand(microvolts.shape[0], -1, -1)
    if channels is not None:
        groups = groups & channels[..., None]
    with _full_precision(microvolts.device):
        spectrum = short_time_spectrum(microvolts.float(), samples)
        power, correlation = band_power(spectrum, power_bands or bands), band_correlation(spectrum, bands)
        groups = groups.to(power.dtype)
        log_power = torch.einsum("bmc,bcg->bgm", (power + POWER_FLOOR).log(), groups)
        counts = groups.sum(dim=1)  # [B, G]
        z = correlation.clamp(-HIGHEST_CORRELATION, HIGHEST_CORRELATION).atanh()
        z = z * (1 - torch.eye(z.shape[-1], device=z.device))  # no channel with itself
        between = torch.einsum("bnij,bjh->bnih", z, groups)
        between = torch.einsum("bnih,big->bghn", between, groups)  # [B, G, G, N]
        shared = torch.einsum("bcg,bch->bgh", groups, groups)  # channels in both
        pair_counts = counts[:, :, None] * counts[:, None] - shared
    first, second = torch.triu_indices(groups.shape[-1], groups.shape[-1], device=groups.device)
    pair_counts = pair_counts[:, first, second]
    return Connectivity(
        log_power / counts.clamp(min=1)[..., None],
        between[:, first, second] / pair_counts.clamp(min=1)[..., None],
        counts > 0,
        pair_counts > 0,
    )


def band_power(spectrum: Tensor, bands: Sequence[Sequence[int]]) -> Tensor:
    """Power of each channel in each band, `[B, M, C]` (square microvolts), from [`short_time_spectrum`]."""
    squares = spectrum.square().sum(dim=(2, 4))  # [B, C, F]
    return torch.stack([squares[..., low - 1 : high - 1].sum(dim=-1) for low, high in bands], dim=1)


def band_correlation(spectrum: Tensor, bands: Sequence[Sequence[int]]) -> Tensor:
    """
    Correlations of all channels in each band, `[B, N, C, C]`, from [`short_time_spectrum`]; 0 for a channel without
    power there.
    """
    correlations = []
    for low, high in bands:
        parts = spectrum[:, :, :, low - 1 : high - 1].flatten(2)  # [B, C, n]
        cross = torch.einsum("bin,bjn->bij", parts, parts)
        scale = cross.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12).rsqrt()
        correlations.append(cross * scale[:, :, None] * scale[:, None])
    return torch.stack(correlations, dim=1)


def short_time_spectrum(microvolts: Tensor, samples: Tensor | None = None) -> Tensor:
    """
    Real and imaginary parts at 1 to 31 Hz in segments of one second (Hann windows): `[B, C, T]` -> `[B, C, 2, F, S]`.
    The sum of their squares over a band and all segments is the mean power in the band. Segments that reach into
    padding are 0, except the first, so that every window has one.
    """
    batch, channels, length = microvolts.shape
    if samples is None:
        samples = torch.ones(batch, length, dtype=torch.bool, device=microvolts.device)
    real = samples[:, None].to(microvolts.dtype)
    mean = (microvolts * real).sum(-1, keepdim=True) / real.sum(-1, keepdim=True).clamp(min=1)
    microvolts = (microvolts - mean) * real
    missing = max(0, SEGMENT_SAMPLES - length)
    signal = F.pad(microvolts, (0, missing))
    waves = _waves(microvolts.device)
    spectrum = F.conv1d(signal.flatten(0, 1)[:, None], waves, stride=STEP_SAMPLES)
    spectrum = spectrum.unflatten(1, (2, -1)).unflatten(0, (batch, channels))  # [B, C, 2, F, S]
    whole = F.pad(samples, (0, missing))[:, SEGMENT_SAMPLES - 1 :: STEP_SAMPLES]
    whole = whole | (torch.arange(whole.shape[-1], device=whole.device) == 0)
    whole = whole.to(spectrum.dtype)
    return spectrum * (whole / whole.sum(-1, keepdim=True).sqrt())[:, None, None, None]


def _waves(device: torch.device) -> Tensor:
    """Hann-windowed cosines and sines of 1 to 31 Hz, `[2 F, 1, 64]`; a wave of amplitude a has a power of a^2 / 2."""
    places = torch.arange(SEGMENT_SAMPLES, device=device, dtype=torch.float32)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * places / SEGMENT_SAMPLES)
    frequencies = torch.arange(1, SAMPLING_RATE // 2, device=device, dtype=torch.float32)
    angles = 2 * math.pi * frequencies[:, None] * places / SAMPLING_RATE
    # one-sided power: twice the squares, over the window's energy and length
    window = window * math.sqrt(2 / SEGMENT_SAMPLES) / window.square().sum().sqrt()
    return torch.cat((angles.cos() * window, angles.sin() * window))[:, None]


def _full_precision(device: torch.device):
    """Mixed precision is too coarse for correlations near 1."""
    mixed = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if mixed else nullcontext()


__all__ = [
    "Connectivity",
    "band_correlation",
    "band_power",
    "connectivity",
    "connectivity_size",
    "microvolts_of",
    "short_time_spectrum",
]
