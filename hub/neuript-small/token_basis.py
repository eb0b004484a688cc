"""Tokens of scale 0 as combinations of a few vectors: an exact identity that saves half of layer 1's projections."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blockwise import is_plain, linears


class TokenBasis(NamedTuple):
    """
    Layer-normed tokens that nobody has written down: token `[n, t]` is `sum_k coefficients[n, t, k] vectors[t, k]`.

    Args:
        coefficients (`torch.FloatTensor` of shape `(rows, T, k)`): k = 3, or 4 with hidden places.
        vectors (`torch.FloatTensor` of shape `(T, k, d)`): behind the first two stand whole tokens, one of which has
            the coefficient 1 wherever the other has 0, so that they can carry the bias of a linear layer.
    """

    coefficients: Tensor
    vectors: Tensor

    def project(self, *layers: nn.Linear) -> tuple[Tensor, ...]:
        """What each of the layers makes of the tokens, `[rows, T, d]` each."""
        if not is_plain(*layers):
            return linears(torch.einsum("ntk,tkd->ntd", self.coefficients, self.vectors), *layers)
        weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
        images = F.linear(self.vectors, weight)
        images = torch.cat((images[:, :2], images[:, 2:] + bias), dim=1)
        projected = torch.einsum("ntk,tkd->ntd", self.coefficients, images)
        return projected.split([layer.out_features for layer in layers], dim=-1)


class ScalarTokens(NamedTuple):
    """
    The tokens of scale 0 by their parts: one number times one vector, plus the code of their time.

    Args:
        signal (`torch.FloatTensor` of shape `(B, C, T)`): the numbers.
        slope (`torch.FloatTensor` of shape `(d,)`): the vector.
        codes (`torch.FloatTensor` of shape `(T, d)`): bias and code of time.
        hidden (`torch.BoolTensor` of shape `(B, C, T)`, *optional*): places where `mask_token` stands instead.
        mask_token (`torch.FloatTensor` of shape `(d,)`, *optional*): the learned [mask] vector.
    """

    signal: Tensor
    slope: Tensor
    codes: Tensor
    hidden: Tensor | None = None
    mask_token: Tensor | None = None

    def tokens(self) -> Tensor:
        """Written down after all, `[B, C, T, d]`."""
        tokens = self.signal[..., None] * self.slope + self.codes
        return tokens if self.hidden is None else torch.where(self.hidden[..., None], self.mask_token, tokens)

    def normed(self, norm: nn.LayerNorm) -> TokenBasis:
        """
        The layer norm of the tokens, rows = B * C. With slope and codes freed of their means, u and P_t, it is
        `(x u + P_t) gamma / sigma(x, t) + beta`.
        """
        slope, codes = self.slope - self.slope.mean(), self.codes - self.codes.mean(-1, keepdim=True)
        samples = self.signal.flatten(0, 1).to(torch.promote_types(codes.dtype, torch.float32))
        variance = samples**2 * slope.square().mean() + 2 * samples * (codes @ slope / len(slope))
        scale = (variance + codes.square().mean(-1) + norm.eps).rsqrt()
        coefficients = [samples * scale, scale, torch.ones_like(scale)]
        vectors = [slope * norm.weight, codes * norm.weight, norm.bias]
        if self.hidden is not None:
            hidden = self.hidden.flatten(0, 1)
            coefficients = [values.masked_fill(hidden, 0.0) for values in coefficients] + [hidden.to(scale.dtype)]
            vectors.append(norm(self.mask_token))
        vectors = torch.stack([vector.expand_as(codes) for vector in vectors], dim=1)
        return TokenBasis(torch.stack(coefficients, dim=-1).to(codes.dtype), vectors)


__all__ = ["ScalarTokens", "TokenBasis"]
