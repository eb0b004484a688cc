"""Which tokens are real, padded or hidden, and which keys attention sees (docs/model.md sections 5 and 7)."""

from typing import NamedTuple

import torch
from torch import Tensor


class TokenMasks(NamedTuple):
    """
    Which tokens of a scale are what; `None` stands for "no such token".

    Args:
        segments (`torch.BoolTensor` of shape `(B, L)`): true = the segment holds a real sample.
        channels (`torch.BoolTensor` of shape `(B, C)`): true = a real and good channel.
        hidden (`torch.BoolTensor` of shape `(B, C, L)`): true = every sample of the segment is hidden from the model.
    """

    segments: Tensor | None
    channels: Tensor | None
    hidden: Tensor | None

    def valid(self) -> Tensor | None:
        """Real tokens, to be broadcast to `[B, C, L]`."""
        if self.segments is None:
            return None if self.channels is None else self.channels[..., None]
        return self.segments[:, None] if self.channels is None else self.channels[..., None] & self.segments[:, None]

    def visible(self, tokens: Tensor) -> Tensor:
        """Real tokens that are not hidden, in the shape of `tokens [B, C, L]`."""
        visible = torch.ones_like(tokens, dtype=torch.bool) if self.hidden is None else ~self.hidden
        return visible if (valid := self.valid()) is None else visible & valid

    def across_channels(self) -> "TokenMasks":
        """The same with channels in the place of segments, for tokens `[B, L, C, d]`."""
        return TokenMasks(self.channels, self.segments, None if self.hidden is None else self.hidden.transpose(1, 2))


def key_mask(masks: TokenMasks, rows: int, strict_masking: bool) -> Tensor | None:
    """
    Who may look at whom along the last axis of tokens `[B, rows, keys, d]` (docs/model.md sections 5, 7, 16): bool
    `[B * rows, 1, 1, keys]`, or `None` where everybody sees everybody.

    Padded and hidden tokens are no keys, for all queries alike, so the mask never grows to keys x keys. A row whose
    tokens are all hidden sees all of them (they carry no signal), a row of padding sees itself (its result does not
    matter, but must be finite). With `strict_masking=False`, the authors' behaviour, hidden tokens stay keys, and a
    hidden query sees only itself: `[B * rows, 1, keys, keys]`.
    """
    if masks.segments is None and masks.hidden is None:
        return None
    hidden = None if masks.hidden is None else masks.hidden.flatten(0, 1)
    keys = torch.ones_like(hidden) if masks.segments is None else masks.segments.repeat_interleave(rows, dim=0)
    if hidden is not None and strict_masking:
        visible = keys & ~hidden
        keys = torch.where(visible.any(-1, keepdim=True), visible, keys)
    keys = keys | ~keys.any(-1, keepdim=True)
    mask = keys[:, None, None, :]
    if hidden is not None and not strict_masking:
        itself = torch.eye(hidden.shape[-1], dtype=torch.bool, device=hidden.device)
        mask = mask & (~hidden[:, None, :, None] | itself)
    return mask


__all__ = ["TokenMasks", "key_mask"]
