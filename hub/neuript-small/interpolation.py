"""A straight line in time through visible samples: the simplest filler, and what the decoder may depart from."""

import torch
from torch import Tensor


def fill_linear(values: Tensor, visible: Tensor) -> Tensor:
    """
    A straight line in time between the channel's nearest visible samples; before the first and after the last one,
    their values, and 0 where the channel has none.

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


__all__ = ["fill_linear"]
