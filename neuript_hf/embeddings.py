"""From samples to tokens, and the codes of time and place (docs/model.md section 3, paper table 11)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .configuration_neuript import NeurIPTConfig


def sinusoid(positions: Tensor, dim: int) -> Tensor:
    """
    Sine and cosine code of real-valued positions (docs/model.md section 3): `(...)` -> `(..., dim)`, `dim` even. Even
    entries are `sin(p w_j)`, odd entries `cos(p w_j)` with `w_j = 10000^(-2j/dim)`. Computed in float32, never stored:
    a table in a buffer would come back from `from_pretrained` as uninitialised memory.
    """
    exponents = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim
    angles = positions.float()[..., None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class NeurIPTEmbedded(NamedTuple):
    """
    What the embeddings return: `tokens [B, C, T, d]`, which include the code of time, `temporal_code [T, d]` and
    `spatial_code [B or 1, C, d]`.
    """

    tokens: Tensor
    temporal_code: Tensor
    spatial_code: Tensor


class NeurIPTEmbeddings(nn.Module):
    """One linear layer from sample to token, and the codes of time and place."""

    def __init__(self, config: NeurIPTConfig):
        super().__init__()
        self.hidden_size = config.hidden_size
        self.position_encoding = config.position_encoding
        self.token = nn.Linear(1, config.hidden_size)
        if self.position_encoding in ("learned_1d", "learned_2d"):
            self.channel_code = nn.Embedding(config.max_channels, config.hidden_size)
        if self.position_encoding == "learned_2d":
            self.time_code = nn.Embedding(config.max_samples, config.hidden_size)

    # Codes are made on the device of the input: an offloaded weight is nowhere until its module runs.

    def temporal_code(self, num_samples: int, device: torch.device | None = None) -> Tensor:
        """Code of the sample numbers, `[T, d]`."""
        if self.position_encoding == "learned_2d":
            if num_samples > (known := self.time_code.num_embeddings):
                raise ValueError(f"A window has {num_samples} samples, max_samples is {known}.")
            return self.time_code(torch.arange(num_samples, device=device))
        samples = torch.arange(num_samples, device=device)
        return sinusoid(samples, self.hidden_size).to(self.token.weight.dtype)

    def spatial_code(
        self, num_channels: int, electrode_positions: Tensor | None, device: torch.device | None = None
    ) -> Tensor:
        """Code of the places, `[B or 1, C, d]`; by coordinates `[B, C, 3]` (grid units) in the default `"3d"`."""
        if self.position_encoding == "3d":
            if electrode_positions is None:
                raise ValueError(
                    "electrode_positions [B, C, 3] are needed; take them from the feature extractor's output or from "
                    "extractor.channel_features(channel_names)."
                )
            third = self.hidden_size // 3
            horizontal = third - third % 2
            dims = (horizontal, horizontal, self.hidden_size - 2 * horizontal)
            axes = [sinusoid(electrode_positions[..., axis], dim) for axis, dim in enumerate(dims)]
            return torch.cat(axes, dim=-1).to(self.token.weight.dtype)
        if self.position_encoding == "channel_index":
            channels = torch.arange(num_channels, device=device)
            return sinusoid(channels, self.hidden_size).to(self.token.weight.dtype)[None]
        if num_channels > (known := self.channel_code.num_embeddings):
            raise ValueError(f"A window has {num_channels} channels, max_channels is {known}.")
        return self.channel_code(torch.arange(num_channels, device=device))[None]

    def forward(self, input_values: Tensor, electrode_positions: Tensor | None) -> NeurIPTEmbedded:
        """Samples `[B, C, T]` and places `[B, C, 3]` (grid units) -> tokens and codes."""
        _, num_channels, num_samples = input_values.shape
        signal = input_values.to(self.token.weight.dtype)
        temporal_code = self.temporal_code(num_samples, signal.device)
        spatial_code = self.spatial_code(num_channels, electrode_positions, signal.device)
        return NeurIPTEmbedded(self.token(signal[..., None]) + temporal_code, temporal_code, spatial_code)


__all__ = ["NeurIPTEmbedded", "NeurIPTEmbeddings", "sinusoid"]
