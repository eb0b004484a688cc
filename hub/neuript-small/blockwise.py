"""
The model's arithmetic in blocks that stay in a processor's cache.

NeurIPT has thousands of tokens for each window, so on a CPU the plain form of a feed-forward block or of attention
spends more time on fetching fresh memory for its intermediate tensors than on multiplying. The functions here give the
same results: they walk through the tokens in blocks, write only what outlives the block, and keep for the backward
pass less than autograd would. Dropout draws the gaps between the dropped places, not one number for each place.

They are for plain work on a CPU in float32 or float64. Everywhere else (a GPU, autocast, `torch.compile`, export,
`torch.func`) [`usable`] says no and the model takes the plain form that stands beside each call. Gradients are exact;
gradients of gradients are refused by torch with an error that says so.
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


# Tokens of a block, and attention scores of a block: a few megabytes in float32.
BLOCK_TOKENS = 2048
BLOCK_SCORES = 2**19
# Up to here, attention in blocks beats torch's fused kernel for the CPU even without dropout (docs/performance.md).
SHORT_AXIS = 64


def usable(*tensors: Tensor) -> bool:
    """True where blocks can and should replace the plain form for these tensors."""
    return (
        all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)  # no DTensor, no quantised weight
        and all(tensor.device.type == "cpu" and tensor.dtype == tensors[0].dtype for tensor in tensors)
        and tensors[0].dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
    )


def is_plain(*layers: nn.Module) -> bool:
    """
    True where every layer is a linear layer with a bias and nothing else: no adapter, quantisation, parametrisation or
    hook, all of which reading its weight would pass by.
    """
    return all(type(layer) is nn.Linear and layer.bias is not None and not is_hooked(layer) for layer in layers)


def is_hooked(layer: nn.Module) -> bool:
    """True where something runs before or after the layer, such as a hook that brings its weights."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return "forward" in layer.__dict__ or any(hooks)


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _dropped(count: int, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """
    The places among `count` that dropout takes, in order; each with the probability, whatever happens to the others.
    The gaps between such places are geometric: one draw for each dropped place is enough.
    """
    parts, last = [torch.empty(0, dtype=torch.int64)], -1
    while last < count - 1:
        expected = (count - 1 - last) * probability
        draws = math.ceil(expected + 6 * math.sqrt(expected)) + 1  # one round is enough but for once in a billion
        bits = torch.empty(-(-draws // 2), dtype=torch.int64).random_(-(2**63), None, generator=generator)
        uniform = bits.view(torch.int32).float().abs_().add_(0.5).mul_(2**-31)  # never 0
        gaps = uniform.log_().mul_(1 / math.log1p(-probability)).long().add_(1)
        parts.append(gaps.cumsum(0).add_(last))
        last = int(parts[-1][-1])
    places = torch.cat(parts) if len(parts) > 2 else parts[-1]
    return places[: torch.searchsorted(places, count)]


# Dropout on the way into the residual stream


class _DroppedSum(Function):
    @staticmethod
    def forward(ctx, residual: Tensor, update: Tensor, probability: float) -> Tensor:
        total = torch.add(residual, update, alpha=1 / (1 - probability))
        places = _dropped(total.numel(), probability)
        total.view(-1).put_(places, residual.view(-1).take(places))
        ctx.save_for_backward(places)
        ctx.probability = probability
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (places,) = ctx.saved_tensors
        to_update = gradient.mul(1 / (1 - ctx.probability)).contiguous()
        to_update.view(-1).index_fill_(0, places, 0.0)
        return gradient, to_update, None


def add_dropped(residual: Tensor, update: Tensor, dropout: nn.Dropout) -> Tensor:
    """`residual + dropout(update)`."""
    if not (dropout.training and dropout.p > 0):
        return residual + update
    if usable(residual, update) and residual.is_contiguous() and update.is_contiguous() and dropout.p < 1:
        return _DroppedSum.apply(residual, update, dropout.p)
    return residual + dropout(update)


# Linear layers side by side (queries, keys and values)


class _Linears(Function):
    @staticmethod
    def forward(ctx, tokens: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        weights = parameters[0::2]
        weight, bias = torch.cat(weights), torch.cat(parameters[1::2])
        output = tokens.new_empty(len(tokens), len(weight))
        for block in _blocks(len(tokens), BLOCK_TOKENS):
            torch.addmm(bias, tokens[block], weight.t(), out=output[block])
        ctx.save_for_backward(tokens, *weights)
        return output.split([len(weight) for weight in weights], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tokens, *weights = ctx.saved_tensors
        weight = torch.cat(weights)
        to_tokens = torch.empty_like(tokens) if ctx.needs_input_grad[0] else None
        to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(weight[:, 0])
        for block in _blocks(len(tokens), BLOCK_TOKENS):
            gradient = torch.cat([part[block] for part in gradients], dim=1)
            if any(ctx.needs_input_grad[1:]):
                to_weight.addmm_(gradient.t(), tokens[block])
                to_bias += gradient.sum(0)
            if to_tokens is not None:
                torch.mm(gradient, weight, out=to_tokens[block])
        sizes = [len(part) for part in weights]
        pairs = zip(to_weight.split(sizes), to_bias.split(sizes), strict=True)
        return to_tokens, *(part for pair in pairs for part in pair)


def linears(states: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """The output of each layer: `[..., d]` -> `[..., d']` each."""
    if not (is_plain(*layers) and usable(states, layers[0].weight)):
        return tuple(layer(states) for layer in layers)
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    outputs = _Linears.apply(states.flatten(0, -2), *parameters)
    return tuple(output.unflatten(0, states.shape[:-1]) for output in outputs)


# SwiGLU feed-forward block


def _gated(up: Tensor) -> Tensor:
    gate, values = up.chunk(2, dim=-1)
    return F.silu(gate).mul_(values)


def _gated_backward(up: Tensor, activated_gate: Tensor, gradient: Tensor) -> Tensor:
    """Gradient with respect to `up`; overwrites `gradient`."""
    gate, values = up.chunk(2, dim=-1)
    to_up = torch.empty_like(up)
    to_gate, to_values = to_up.chunk(2, dim=-1)
    torch.mul(gradient, activated_gate, out=to_values)
    torch.ops.aten.silu_backward.grad_input(gradient.mul_(values), gate, grad_input=to_gate)
    return to_up


class _SwiGLU(Function):
    @staticmethod
    def forward(
        ctx, tokens: Tensor, up_weight: Tensor, up_bias: Tensor, down_weight: Tensor, down_bias: Tensor, keep: bool
    ) -> Tensor:
        output = torch.empty_like(tokens)
        # Without a backward pass, one block of it is enough.
        up = tokens.new_empty(len(tokens) if keep else min(BLOCK_TOKENS, len(tokens)), len(up_weight))
        for block in _blocks(len(tokens), BLOCK_TOKENS):
            place = up[block] if keep else up[: block.stop - block.start]
            torch.addmm(up_bias, tokens[block], up_weight.t(), out=place)
            torch.addmm(down_bias, _gated(place), down_weight.t(), out=output[block])
        if keep:
            ctx.save_for_backward(tokens, up, up_weight, down_weight)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, up, up_weight, down_weight = ctx.saved_tensors
        to_tokens = torch.empty_like(tokens) if ctx.needs_input_grad[0] else None
        to_up_weight, to_down_weight = torch.zeros_like(up_weight), torch.zeros_like(down_weight)
        to_up_bias, to_down_bias = torch.zeros_like(up_weight[:, 0]), torch.zeros_like(down_weight[:, 0])
        trains = any(ctx.needs_input_grad[1:5])
        for block in _blocks(len(tokens), BLOCK_TOKENS):
            block_up, block_gradient = up[block], gradient[block]
            activated_gate = F.silu(block_up.chunk(2, dim=-1)[0])
            if trains:
                to_down_weight.addmm_(block_gradient.t(), activated_gate * block_up.chunk(2, dim=-1)[1])
                to_down_bias += block_gradient.sum(0)
            to_up = _gated_backward(block_up, activated_gate, block_gradient @ down_weight)
            if trains:
                to_up_weight.addmm_(to_up.t(), tokens[block])
                to_up_bias += to_up.sum(0)
            if to_tokens is not None:
                torch.mm(to_up, up_weight, out=to_tokens[block])
        return to_tokens, to_up_weight, to_up_bias, to_down_weight, to_down_bias, None


def swiglu(states: Tensor, up_proj: nn.Linear, down_proj: nn.Linear) -> Tensor:
    """`down_proj(silu(first half) * second half)` of `up_proj(states)`: `[..., d]` -> `[..., d]`."""
    parameters = (up_proj.weight, up_proj.bias, down_proj.weight, down_proj.bias)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (states, *parameters))
    return _SwiGLU.apply(states.flatten(0, -2), *parameters, keep).view_as(states)


# Routed experts


class _SwiGLUExperts(Function):
    @staticmethod
    def forward(
        ctx,
        tokens: Tensor,
        experts: Tensor,
        weights: Tensor,
        up_weight: Tensor,
        up_bias: Tensor,
        down_weight: Tensor,
        down_bias: Tensor,
    ) -> Tensor:
        slots = experts.flatten().argsort(stable=True)  # token-expert pairs in the order of their experts
        counts = experts.flatten().bincount(minlength=len(up_weight)).tolist()
        up = tokens.new_empty(len(slots), up_weight.shape[1])
        mixed = torch.zeros_like(tokens)
        for expert, block in _expert_blocks(counts):
            rows = slots[block] // experts.shape[1]
            torch.addmm(up_bias[expert], tokens[rows], up_weight[expert].t(), out=up[block])
            states = torch.addmm(down_bias[expert], _gated(up[block]), down_weight[expert].t())
            mixed.index_add_(0, rows, states.mul_(weights.flatten()[slots[block], None]))
        ctx.save_for_backward(tokens, weights, slots, up, up_weight, down_weight, down_bias)
        ctx.counts = counts
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weights, slots, up, up_weight, down_weight, down_bias = ctx.saved_tensors
        to_tokens, to_weights = torch.zeros_like(tokens), torch.empty_like(weights).flatten()
        to_up_weight, to_down_weight = torch.zeros_like(up_weight), torch.zeros_like(down_weight)
        to_up_bias, to_down_bias = torch.zeros_like(up_weight[..., 0]), torch.zeros_like(down_bias)
        for expert, block in _expert_blocks(ctx.counts):
            rows, weight = slots[block] // weights.shape[1], weights.flatten()[slots[block], None]
            block_gradient = gradient[rows]
            activated_gate = F.silu(up[block].chunk(2, dim=-1)[0])
            activated = activated_gate * up[block].chunk(2, dim=-1)[1]
            to_activated = block_gradient @ down_weight[expert]  # before the token's weight for the expert
            to_weights[slots[block]] = (to_activated * activated).sum(-1) + block_gradient @ down_bias[expert]
            block_gradient = block_gradient.mul_(weight)
            to_down_weight[expert].addmm_(block_gradient.t(), activated)
            to_down_bias[expert] += block_gradient.sum(0)
            to_up = _gated_backward(up[block], activated_gate, to_activated.mul_(weight))
            to_up_weight[expert].addmm_(to_up.t(), tokens[rows])
            to_up_bias[expert] += to_up.sum(0)
            to_tokens.index_add_(0, rows, to_up @ up_weight[expert])
        to_weights = to_weights.view_as(weights)
        return to_tokens, None, to_weights, to_up_weight, to_up_bias, to_down_weight, to_down_bias


def _expert_blocks(counts: list[int]) -> list[tuple[int, slice]]:
    """Which expert, and which of the sorted token-expert pairs."""
    blocks, start = [], 0
    for expert, count in enumerate(counts):
        for block in _blocks(count, BLOCK_TOKENS):
            blocks.append((expert, slice(start + block.start, start + block.stop)))
        start += count
    return blocks


def swiglu_experts(tokens: Tensor, experts: Tensor, weights: Tensor, *parameters: Tensor) -> Tensor:
    """
    Tokens `[n, d]` through their kept experts `[n, k]` with their weights `[n, k]` -> `[n, d]`; stacked parameters
    `[E, 2w, d]`, `[E, 2w]`, `[E, d, w]`, `[E, d]`.
    """
    return _SwiGLUExperts.apply(tokens, experts, weights, *parameters)


# Attention


def _probabilities(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Softmax of `[rows * H, queries, keys]`; mask `[rows, 1, 1 or queries, keys]`, the same for all heads."""
    scores = torch.baddbmm(query.new_empty(()), query, key.transpose(1, 2), beta=0, alpha=scaling)
    if mask is not None:
        shut = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, torch.finfo(scores.dtype).min)
        scores.unflatten(0, (len(mask), -1)).add_(shut)  # faster than filling the scores
    return scores.softmax(-1)


def _heads(states: Tensor) -> Tensor:
    """`[rows, H, length, d/H]`, strided -> `[rows * H, length, d/H]`, dense."""
    return states.reshape(-1, *states.shape[2:])


class _Attention(Function):
    """Queries `[rows, H, queries, d/H]`, keys and values `[rows, H, keys, d/H]` -> `[rows, queries, H, d/H]`."""

    @staticmethod
    def forward(
        ctx, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float
    ) -> Tensor:
        # The backward pass draws the same places again.
        ctx.seed = int(torch.randint(2**62, ())) if dropout > 0 else None
        ctx.scaling, ctx.dropout = scaling, dropout
        ctx.save_for_backward(query, key, value, mask)
        generator = None if ctx.seed is None else torch.Generator().manual_seed(ctx.seed)
        attended = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
        for block in _attention_blocks(query, key):
            block_mask = None if mask is None else mask[block]
            weights = _probabilities(_heads(query[block]), _heads(key[block]), block_mask, scaling)
            if generator is not None:
                weights.view(-1).index_fill_(0, _dropped(weights.numel(), dropout, generator), 0.0)
            states = torch.bmm(weights, _heads(value[block])).mul_(1 / (1 - dropout))
            attended[block] = states.view_as(query[block]).transpose(1, 2)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        # laid out as the projections want them: [rows, length, H, d/H]
        gradients = [
            torch.empty_like(states.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
            for states in (query, key, value)
        ]
        generator = None if ctx.seed is None else torch.Generator().manual_seed(ctx.seed)
        for block in _attention_blocks(query, key):
            block_query, block_key, block_value = (_heads(states[block]) for states in (query, key, value))
            weights = _probabilities(block_query, block_key, None if mask is None else mask[block], ctx.scaling)
            to_attended = _heads(gradient[block].transpose(1, 2) * (1 / (1 - ctx.dropout)))
            to_weights = torch.bmm(to_attended, block_value.transpose(1, 2))
            used = weights
            if generator is not None:
                places = _dropped(weights.numel(), ctx.dropout, generator)
                to_weights.view(-1).index_fill_(0, places, 0.0)
                used = weights.view(-1).index_fill(0, places, 0.0).view_as(weights)
            to_value = torch.bmm(used.transpose(1, 2), to_attended)
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype).mul_(ctx.scaling)
            to_query = torch.bmm(to_scores, block_key)
            to_key = torch.bmm(to_scores.transpose(1, 2), block_query)
            for whole, part in zip(gradients, (to_query, to_key, to_value), strict=True):
                whole[block] = part.view_as(whole[block])
        return *gradients, None, None, None


def _attention_blocks(query: Tensor, key: Tensor) -> list[slice]:
    rows, heads, queries, _ = query.shape
    return _blocks(rows, max(1, BLOCK_SCORES // (heads * queries * key.shape[2])))


def attention_pays(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> bool:
    """True where blocks are faster than torch's fused kernel, which knows no dropout and is slow on short axes."""
    # `usable` first: under export the length of the axis is a symbol, which a comparison would bind
    return dropout < 1 and usable(query, key, value) and (dropout > 0 or key.shape[2] <= SHORT_AXIS)


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, None]:
    """`[rows, H, length, d/H]` -> `[rows, length, H, d/H]`, as transformers' attention functions; no probabilities."""
    return _Attention.apply(query, key, value, attention_mask, scaling, dropout), None


__all__ = [
    "add_dropped",
    "attention_forward",
    "attention_pays",
    "is_hooked",
    "is_plain",
    "linears",
    "swiglu",
    "swiglu_experts",
    "usable",
]
