"""
What `speed.py` compares with: NeurIPT written down plainly, spec sections 3 to 8 line by line in straight PyTorch.

Attention is spelled out (scores, softmax, product), masks are `[rows, queries, keys]`, each expert is a linear layer
of its own that runs on the tokens it was given, nothing is computed once for several places. Defaults of spec section
16, 3-D positions, no padding, dense decoder: what the benchmark times. `PlainClassifier` and `PlainPreTraining` take
the weights of the package's models with `load_from`, and `tests/test_benchmarks.py` holds them to the same results.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuript_hf import NeurIPTConfig


def sinusoid(positions: Tensor, dim: int) -> Tensor:
    frequencies = torch.exp(-math.log(10000.0) * (torch.arange(0, dim, 2, device=positions.device) / dim))
    angles = positions.float()[..., None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def temporal_code(samples: int, dim: int, device: torch.device) -> Tensor:
    return sinusoid(torch.arange(samples, device=device), dim)


def spatial_code(positions: Tensor, dim: int) -> Tensor:
    plane = dim // 3 - dim // 3 % 2
    return torch.cat([sinusoid(positions[..., i], size) for i, size in enumerate((plane, plane, dim - 2 * plane))], -1)


class PlainAttention(nn.Module):
    def __init__(self, config: NeurIPTConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = nn.Dropout(config.attention_dropout)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(config.hidden_size, config.hidden_size))

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            proj(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj, states in ((self.q_proj, queries), (self.k_proj, memory), (self.v_proj, memory))
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        return self.o_proj((self.dropout(scores.softmax(-1)) @ v).transpose(1, 2).flatten(-2))


class PlainFeedForward(nn.Module):
    def __init__(self, dim: int, width: int):
        super().__init__()
        self.up_proj = nn.Linear(dim, 2 * width)
        self.down_proj = nn.Linear(width, dim)

    def forward(self, states: Tensor) -> tuple[Tensor, float]:
        gate, values = self.up_proj(states).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * values), 0.0


class PlainMixture(nn.Module):
    def __init__(self, config: NeurIPTConfig, experts: int):
        super().__init__()
        self.config = config
        self.router = nn.Linear(config.hidden_size, experts)
        self.experts = nn.ModuleList(
            PlainFeedForward(config.hidden_size, config.moe_intermediate_size) for _ in range(experts)
        )
        self.shared_expert = PlainFeedForward(config.hidden_size, config.shared_expert_intermediate_size)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor | float]:
        tokens, count = states.flatten(0, -2), len(self.experts)
        logits = self.router(tokens)
        if self.training:
            logits = logits + self.config.router_noise * torch.randn_like(logits)
        probabilities = logits.softmax(-1)
        weights, kept = probabilities.topk(math.ceil(self.config.expert_top_k_ratio * count), dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        mixed = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            rows, slots = torch.where(kept == index)
            mixed = mixed.index_add(0, rows, expert(tokens[rows])[0] * weights[rows, slots, None])
        loss = 0.0
        if self.training:
            importance, shares = (
                probabilities.sum(0),
                F.one_hot(kept, count).to(logits.dtype).sum((0, 1)) / kept.numel(),
            )
            loss = self.config.router_importance_coef * importance.var() / (importance.mean() ** 2 + 1e-8)
            loss = loss + count * (shares * probabilities.mean(0)).sum()
        return self.shared_expert(states)[0] + mixed.view_as(states), loss


class PlainStage(nn.Module):
    """Attention along the last axis of `[rows, length, d]`, then the feed-forward block."""

    def __init__(self, config: NeurIPTConfig, experts: int):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.attention = PlainAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        if experts:
            self.feed_forward = PlainMixture(config, experts)
        else:
            self.feed_forward = PlainFeedForward(config.hidden_size, config.intermediate_size)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | float]:
        normed = self.norm(states)
        states = states + self.dropout(self.attention(normed, normed, mask))
        update, loss = self.feed_forward(self.feed_forward_norm(states))
        return states + self.dropout(update), loss


def square_mask(hidden: Tensor | None) -> Tensor | None:
    """Keys that are seen, `[rows, length]` hidden -> `[rows, length, length]`; all of them in rows without any."""
    if hidden is None:
        return None
    seen = ~hidden | hidden.all(-1, keepdim=True)
    return seen[:, None].expand(-1, hidden.shape[-1], -1).contiguous()


class PlainTwoStageAttention(nn.Module):
    def __init__(self, config: NeurIPTConfig, experts: int):
        super().__init__()
        self.time_stage = PlainStage(config, experts)
        self.channel_stage = PlainStage(config, experts)

    def forward(self, states: Tensor, hidden: Tensor | None, code: Tensor | None) -> tuple[Tensor, Tensor | float]:
        shape = states.shape
        mask = None if hidden is None else square_mask(hidden.flatten(0, 1))
        states, time_loss = self.time_stage(states.flatten(0, 1), mask)
        states = states.view(shape)
        if code is not None:
            states = states + code[:, :, None]
        mask = None if hidden is None else square_mask(hidden.transpose(1, 2).flatten(0, 1))
        states, channel_loss = self.channel_stage(states.transpose(1, 2).flatten(0, 1), mask)
        return states.unflatten(0, (shape[0], -1)).transpose(1, 2), time_loss + channel_loss


class PlainMerging(nn.Module):
    def __init__(self, config: NeurIPTConfig, size: int):
        super().__init__()
        self.size = size
        self.norm = nn.LayerNorm(size * config.hidden_size)
        self.proj = nn.Linear(size * config.hidden_size, config.hidden_size)

    def forward(self, states: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if missing := -states.shape[2] % self.size:
            states = torch.cat([states, states[:, :, -missing:]], dim=2)
            hidden = None if hidden is None else torch.cat([hidden, hidden[:, :, -missing:]], dim=2)
        hidden = None if hidden is None else hidden.unflatten(2, (-1, self.size)).all(-1)
        return self.proj(self.norm(states.unflatten(2, (-1, self.size)).flatten(-2))), hidden


class PlainEncoderLayer(nn.Module):
    def __init__(self, config: NeurIPTConfig, index: int):
        super().__init__()
        size = config.merge_sizes[index]
        self.merging = PlainMerging(config, size) if size > 1 else None
        self.two_stage_attention = PlainTwoStageAttention(config, config.num_experts[index])

    def forward(self, states: Tensor, hidden: Tensor | None, code: Tensor | None):
        if self.merging is not None:
            states, hidden = self.merging(states, hidden)
        states, loss = self.two_stage_attention(states, hidden, code)
        return states, hidden, loss


class PlainEncoder(nn.Module):
    def __init__(self, config: NeurIPTConfig):
        super().__init__()
        self.token = nn.Linear(1, config.hidden_size)
        self.layers = nn.ModuleList(PlainEncoderLayer(config, i) for i in range(config.num_hidden_layers))

    def forward(self, signal: Tensor, positions: Tensor, hidden: Tensor | None = None):
        """All scales, which of their segments are hidden, and the auxiliary loss."""
        dim = self.token.out_features
        if hidden is not None:
            signal = signal.masked_fill(hidden, 0.0)
        states = self.token(signal[..., None]) + temporal_code(signal.shape[-1], dim, signal.device)
        scales, hidden_scales, loss = [states], [hidden], 0.0
        for index, layer in enumerate(self.layers):
            states, hidden, layer_loss = layer(states, hidden, spatial_code(positions, dim) if index == 0 else None)
            scales.append(states)
            hidden_scales.append(hidden)
            loss = loss + layer_loss
        return scales, hidden_scales, loss


class PlainClassifier(nn.Module):
    def __init__(self, config: NeurIPTConfig):
        super().__init__()
        self.config = config
        self.encoder = PlainEncoder(config)
        self.classifier = nn.Linear(config.num_scales * config.num_lobes * config.hidden_size, config.num_labels)

    def load_from(self, model: nn.Module) -> "PlainClassifier":
        return load_from(self, model)

    def forward(
        self, input_values: Tensor, electrode_positions: Tensor, lobe_mask: Tensor, labels: Tensor | None = None
    ):
        """Logits, or with `labels` the training loss."""
        scales, _, aux_loss = self.encoder(input_values, electrode_positions)
        lobes = lobe_mask.to(input_values.dtype)
        lobes = lobes / lobes.sum(1, keepdim=True).clamp(min=1)
        features = torch.cat([(lobes.transpose(1, 2) @ states.mean(2)).flatten(1) for states in scales], dim=-1)
        logits = self.classifier(features)
        if labels is None:
            return logits
        return F.cross_entropy(logits, labels) + self.config.router_aux_loss_coef * aux_loss


class PlainDecoderLayer(nn.Module):
    def __init__(self, config: NeurIPTConfig):
        super().__init__()
        self.two_stage_attention = PlainTwoStageAttention(config, 0)
        self.query_norm = nn.LayerNorm(config.hidden_size)
        self.memory_norm = nn.LayerNorm(config.hidden_size)
        self.cross_attention = PlainAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = PlainFeedForward(config.hidden_size, config.intermediate_size)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.prediction = nn.Linear(config.hidden_size, 1)

    def forward(self, states: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        states, _ = self.two_stage_attention(states, None, None)
        query = self.query_norm(states)
        attended = self.cross_attention(query.flatten(0, 1), self.memory_norm(memory).flatten(0, 1), None)
        states = self.feed_forward_norm(query + self.dropout(attended.view_as(query)))
        states = states + self.feed_forward(states)[0]
        return states, self.prediction(states)[..., 0]


class PlainPreTraining(nn.Module):
    def __init__(self, config: NeurIPTConfig):
        super().__init__()
        self.config = config
        self.encoder = PlainEncoder(config)
        self.decoder = nn.ModuleList(PlainDecoderLayer(config) for _ in range(config.num_scales))
        self.mask_token = nn.Parameter(torch.zeros(config.hidden_size))

    def load_from(self, model: nn.Module) -> "PlainPreTraining":
        return load_from(self, model)

    def forward(
        self,
        input_values: Tensor,
        electrode_positions: Tensor,
        masked_positions: Tensor,
        hidden_positions: Tensor,
        labels: Tensor | None = None,
        **unused,
    ):
        """Reconstruction, or with `labels` the training loss."""
        dim = self.config.hidden_size
        scales, hidden, aux_loss = self.encoder(input_values, electrode_positions, hidden_positions)
        states = temporal_code(input_values.shape[-1], dim, input_values.device)
        states = states.to(input_values.dtype) + spatial_code(electrode_positions, dim)[:, :, None]
        reconstruction = 0.0
        for layer, memory, absent in zip(self.decoder, scales, hidden, strict=True):
            states, prediction = layer(states, torch.where(absent[..., None], self.mask_token, memory))
            reconstruction = reconstruction + prediction
        if labels is None:
            return reconstruction
        loss = F.mse_loss(reconstruction[masked_positions], labels[masked_positions])
        return loss + self.config.router_aux_loss_coef * aux_loss


def load_from(plain: nn.Module, model: nn.Module) -> nn.Module:
    """Copies the weights of the package's model; its stacked experts become linear layers."""
    weights = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("neuript.embeddings.", "encoder.").replace("neuript.", "encoder.")
        if ".experts." in name:
            block, parameter = name.rsplit(".", 1)
            kind = "bias" if parameter.endswith("_bias") else "weight"
            layer = "up_proj" if parameter.startswith("gate_up_proj") else "down_proj"
            weights |= {f"{block}.{index}.{layer}.{kind}": part for index, part in enumerate(tensor)}
        else:
            weights[name] = tensor
    plain.load_state_dict(weights)
    return plain
