"""
NeurIPT (arXiv 2510.16548), top to bottom as a window of EEG travels.

A window becomes one token for every sample of every channel. Six layers attend along time, then across channels; some
of them first merge neighbouring segments, so later layers see coarser time, and deeper layers replace their
feed-forward blocks by mixtures of more and more experts. Electrode coordinates enter as sinusoidal codes. In
pre-training a seven-layer decoder reconstructs hidden samples; for a task, tokens are averaged within brain lobes at
every scale and classified.

docs/model.md says what is computed and why; the docstrings cite its sections. Where the paper and the authors'
released code differ, the configuration has a switch and the default follows the paper. Embeddings, masks, pooling,
losses and outputs have files of their own; what our own pre-training adds to the paper's is in `auxiliary_targets.py`.

Letters for shapes: B windows, C channels, T samples, L segments of a scale (L = T at scale 0), d hidden size, H heads,
E experts, k kept experts, G pooling groups, n tokens. Hidden states are [B, C, L, d], between the two attention stages
[B, L, C, d]. Signals are A-law companded microvolts at 64 Hz; electrode positions are in grid units of the head frame.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.integrations import use_experts_implementation
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .auxiliary_targets import auxiliary_outputs, embedding_outputs, fill_linear, head_sizes, weighted_losses
from .compact_embedding import WindowNumbers, groups_of_numbers, window_numbers
from .configuration_neuript import NeurIPTConfig
from .embeddings import NeurIPTEmbedded, NeurIPTEmbeddings
from .history import WeightsHistory, mark_drawn
from .link_safe_saving import LinkSafeSaving
from .losses import classification_loss, expert_balance_loss, problem_type_of, reconstruction_loss
from .outputs import NeurIPTClassifierOutput, NeurIPTForPreTrainingOutput, NeurIPTModelOutput
from .pooling import channel_groups, lobe_pooling
from .token_masks import TokenMasks, key_mask


# Attention (docs/model.md sections 4 and 7)


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """Softmax attention spelled out; `[rows, H, length, d/H]` -> `[rows, length, H, d/H]` and the probabilities."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = F.softmax(scores, dim=-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class NeurIPTAttention(nn.Module):
    """
    Multi-head attention along one axis: `[rows, queries, size]` over `[rows, keys, d]` (or over themselves). `size` is
    d, except in a light decoder, which names it.
    """

    def __init__(self, config: NeurIPTConfig, size: int | None = None):
        super().__init__()
        self.config = config
        if size is None:
            size = config.hidden_size
            self.head_dim = size // config.num_attention_heads
        else:
            self.head_dim = config.decoder_head_size
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal = False  # without it, transformers' sdpa would hide the future
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(config.hidden_size, size)
        self.v_proj = nn.Linear(config.hidden_size, size)
        self.o_proj = nn.Linear(size, size)

    def forward(
        self,
        query_states: Tensor,
        key_value_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor | None]:
        """Self-attention without `key_value_states`; only eager attention returns the probabilities."""
        if key_value_states is None:
            key_value_states = query_states
        query, key, value = (
            states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for states in (self.q_proj(query_states), self.k_proj(key_value_states), self.v_proj(key_value_states))
        )
        implementation = self.config._attn_implementation
        if attention_mask is not None and ("flash" in implementation or implementation == "flex_attention"):
            # flash attention would also drop the queries of masked keys, which hidden samples need, and torch's flex
            # attention for the CPU writes beyond its memory when a mask meets a short axis
            implementation = "sdpa"
        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        attended, weights = attention_interface(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.o_proj(attended.flatten(-2)), weights


# Feed-forward blocks and experts (docs/model.md sections 4 and 6)


def gated_activation(states: Tensor, hidden_act: str) -> Tensor:
    """SwiGLU halves its input, `silu(first half) * second half`; GELU and ReLU keep the width."""
    if hidden_act == "swiglu":
        gate, values = states.chunk(2, dim=-1)
        return F.silu(gate) * values
    return F.gelu(states) if hidden_act == "gelu" else F.relu(states)


class NeurIPTFeedForward(nn.Module):
    """
    The dense block: size -> f -> size, also the shared expert; called like an expert block. `size` is d, except in a
    light decoder.
    """

    def __init__(self, config: NeurIPTConfig, intermediate_size: int, size: int | None = None):
        super().__init__()
        size = size or config.hidden_size
        self.hidden_act = config.hidden_act
        gates = 2 if config.hidden_act == "swiglu" else 1
        self.up_proj = nn.Linear(size, gates * intermediate_size)
        self.down_proj = nn.Linear(intermediate_size, size)

    def forward(self, hidden_states: Tensor, valid: Tensor | None = None) -> tuple[Tensor, float]:
        return self.down_proj(gated_activation(self.up_proj(hidden_states), self.hidden_act)), 0.0


class NeurIPTRouter(nn.Linear):
    """Gives every token a probability for each expert and keeps the largest (docs/model.md section 6)."""

    def __init__(self, config: NeurIPTConfig, num_experts: int):
        super().__init__(config.hidden_size, num_experts)
        self.num_experts = num_experts
        self.top_k = math.ceil(config.expert_top_k_ratio * num_experts)
        self.noise = config.router_noise
        self.normalize = config.normalize_router_probs
        self.capacity_factor = config.expert_capacity_factor

    def forward(self, tokens: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens `[n, d]`, `valid [n]` -> logits `[n, E]`, kept weights `[n, k]`, kept experts `[n, k]`."""
        logits = super().forward(tokens)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bf16 is too coarse to rank experts
        if self.training and self.noise > 0:
            logits = logits + self.noise * torch.randn_like(logits)
        weights, experts = logits.softmax(dim=-1).topk(self.top_k, dim=-1)
        if self.normalize:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        if self.capacity_factor is not None:
            weights = weights * self._within_capacity(experts, valid)
        return logits, weights.to(tokens.dtype), experts

    def _within_capacity(self, experts: Tensor, valid: Tensor | None) -> Tensor:
        """True for the first `floor(factor * n / E)` real tokens of each expert, in their order; `[n, k]`."""
        taken = F.one_hot(experts, self.num_experts).sum(dim=1)  # [n, E]
        count = experts.shape[0]
        if valid is not None:
            taken, count = taken * valid[:, None], valid.sum()
        within = taken.cumsum(dim=0) <= self.capacity_factor * count // self.num_experts
        return within.gather(1, experts)


@use_experts_implementation(has_gate=True, has_bias=True)
class NeurIPTExperts(nn.Module):
    """Routed experts with stacked weights; `num_experts` differs from layer to layer."""

    def __init__(self, config: NeurIPTConfig, num_experts: int):
        super().__init__()
        self.num_experts = num_experts
        self.hidden_act = config.hidden_act
        width = config.moe_intermediate_size
        gates = 2 if config.hidden_act == "swiglu" else 1
        self.gate_up_proj = nn.Parameter(torch.empty(num_experts, gates * width, config.hidden_size))
        self.gate_up_proj_bias = nn.Parameter(torch.empty(num_experts, gates * width))
        self.down_proj = nn.Parameter(torch.empty(num_experts, config.hidden_size, width))
        self.down_proj_bias = nn.Parameter(torch.empty(num_experts, config.hidden_size))

    def _apply_gate(self, states: Tensor) -> Tensor:
        return gated_activation(states, self.hidden_act)

    def forward(self, tokens: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """
        Tokens `[n, d]`, kept experts and their weights `[n, k]` -> `[n, d]`.

        Every expert runs on every token, all of them in two products, and those that were not kept have weight 0. No
        shape depends on the data, so this form compiles without a graph break, exports to ONNX and never makes a GPU
        wait. transformers' other implementations (`experts_implementation=`) compute the kept experts alone.
        """
        shares = torch.zeros_like(tokens[:, :1]).expand(-1, self.num_experts).scatter(1, experts, weights)  # [n, E]
        states = F.linear(tokens, self.gate_up_proj.flatten(0, 1), self.gate_up_proj_bias.flatten())
        states = self._apply_gate(states.unflatten(-1, (self.num_experts, -1)))  # [n, E, w]
        shares = shares.to(states.dtype)
        mixed = F.linear((states * shares[..., None]).flatten(-2), self.down_proj.transpose(0, 1).flatten(1))
        return (mixed + shares @ self.down_proj_bias.to(shares.dtype)).to(tokens.dtype)


class NeurIPTSparseMoE(nn.Module):
    """Progressive mixture of experts: a shared expert for every token, plus the kept routed experts."""

    def __init__(self, config: NeurIPTConfig, num_experts: int):
        super().__init__()
        self.importance_coef = config.router_importance_coef
        self.balance_loss = config.balance_loss
        self.router = NeurIPTRouter(config, num_experts)
        self.experts = NeurIPTExperts(config, num_experts)
        self.shared_expert = NeurIPTFeedForward(config, config.shared_expert_intermediate_size)

    def forward(self, hidden_states: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor | float]:
        """`[..., d]`, real tokens `[...]` -> `[..., d]` and the auxiliary loss, 0 outside training."""
        tokens = hidden_states.flatten(0, -2)
        if valid is not None:
            valid = valid.expand(hidden_states.shape[:-1]).flatten()
        logits, weights, experts = self.router(tokens, valid)
        mixed = self.experts(tokens, experts, weights).view_as(hidden_states)
        aux_loss = 0.0
        if self.training:
            aux_loss = expert_balance_loss(logits, experts, valid, self.importance_coef, self.balance_loss)
        return self.shared_expert(hidden_states)[0] + mixed, aux_loss


def feed_forward_block(config: NeurIPTConfig, num_experts: int) -> NeurIPTFeedForward | NeurIPTSparseMoE:
    """A dense block for 0 experts, else a mixture."""
    if num_experts == 0:
        return NeurIPTFeedForward(config, config.intermediate_size)
    return NeurIPTSparseMoE(config, num_experts)


# Encoder (docs/model.md sections 4 and 5)


class NeurIPTAttentionStage(nn.Module):
    """Attention along the last axis of tokens `[B, rows, length, d]`, then a feed-forward block; both pre-norm."""

    def __init__(self, config: NeurIPTConfig, num_experts: int):
        super().__init__()
        self.strict_masking = config.strict_masking
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = NeurIPTAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = feed_forward_block(config, num_experts)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(
        self, hidden_states: Tensor, masks: TokenMasks, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Tensor, Tensor | float]:
        mask = key_mask(masks, hidden_states.shape[1], self.strict_masking)
        states, _ = self.attention(self.norm(hidden_states).flatten(0, 1), attention_mask=mask, **kwargs)
        hidden_states = hidden_states + self.dropout(states.view_as(hidden_states))
        states, aux_loss = self.feed_forward(self.feed_forward_norm(hidden_states), masks.valid())
        return hidden_states + self.dropout(states), aux_loss


class NeurIPTTwoStageAttention(nn.Module):
    """Attention along time for every channel, then across channels for every segment (docs/model.md section 4)."""

    def __init__(self, config: NeurIPTConfig, num_experts: int):
        super().__init__()
        self.time_stage = NeurIPTAttentionStage(config, num_experts)
        self.channel_stage = NeurIPTAttentionStage(config, num_experts)

    def forward(
        self,
        hidden_states: Tensor,
        masks: TokenMasks,
        spatial_code: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor | float]:
        """
        `[B, C, L, d]` -> `[B, C, L, d]` and auxiliary loss; `spatial_code [B or 1, C, d]` enters between the stages.
        """
        hidden_states, time_loss = self.time_stage(hidden_states, masks, **kwargs)
        if spatial_code is not None:
            hidden_states = hidden_states + spatial_code[:, :, None]
        hidden_states = hidden_states.transpose(1, 2)  # [B, L, C, d]
        hidden_states, channel_loss = self.channel_stage(hidden_states, masks.across_channels(), **kwargs)
        return hidden_states.transpose(1, 2), time_loss + channel_loss


class NeurIPTSegmentMerging(nn.Module):
    """Joins `size` neighbouring segments of every channel into one (docs/model.md section 5)."""

    def __init__(self, config: NeurIPTConfig, size: int):
        super().__init__()
        self.size = size
        self.norm = nn.LayerNorm(size * config.hidden_size, eps=config.layer_norm_eps)
        self.proj = nn.Linear(size * config.hidden_size, config.hidden_size)

    def source(self, segments: Tensor | None, length: int, device: torch.device) -> Tensor:
        """
        The segment at each place of the padded sequence: `[B or 1, merged length * size]`.

        A sequence of n segments that `size` does not divide is filled up by repeating its last `r = size - n mod size`
        segments, or, if n < r, by copies of the last one. n is counted for each window up to its last valid segment.
        """
        places = torch.arange(-(-length // self.size) * self.size, device=device)
        if segments is None:
            count = torch.full((1, 1), length, device=device)
        else:
            count = (segments * torch.arange(1, length + 1, device=device)).amax(-1, keepdim=True).clamp(min=1)
        missing = -count % self.size
        repeated = torch.where(count < missing, count - 1, places - missing)
        return torch.where(places < count, places, repeated).clamp(max=length - 1)

    def forward(self, hidden_states: Tensor, masks: TokenMasks) -> tuple[Tensor, TokenMasks]:
        """`[B, C, L, d]` -> `[B, C, ceil(L / size), d]`, with its masks."""
        segments, hidden = masks.segments, masks.hidden
        length = hidden_states.shape[2]
        if segments is not None or length % self.size:
            source = self.source(segments, length, hidden_states.device)
            windows = torch.arange(hidden_states.shape[0], device=hidden_states.device)[:, None]
            hidden_states = hidden_states[windows, :, source].transpose(1, 2)
            segments = None if segments is None else segments.gather(1, source)
            hidden = None if hidden is None else hidden[windows, :, source].transpose(1, 2)
        merged = self.proj(self.norm(hidden_states.unflatten(2, (-1, self.size)).flatten(-2)))
        segments = None if segments is None else segments.unflatten(-1, (-1, self.size)).any(-1)
        hidden = None if hidden is None else hidden.unflatten(-1, (-1, self.size)).all(-1)
        return merged, TokenMasks(segments, masks.channels, hidden)


class NeurIPTEncoderLayer(GradientCheckpointingLayer):
    """Merging of segments, in layers with a merge size above 1, then two-stage attention."""

    def __init__(self, config: NeurIPTConfig, layer_index: int):
        super().__init__()
        size = config.merge_sizes[layer_index]
        self.merging = NeurIPTSegmentMerging(config, size) if size > 1 else None
        self.two_stage_attention = NeurIPTTwoStageAttention(config, config.num_experts[layer_index])

    def forward(
        self,
        hidden_states: Tensor,
        masks: TokenMasks,
        spatial_code: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, TokenMasks, Tensor | float]:
        if self.merging is not None:
            hidden_states, masks = self.merging(hidden_states, masks)
        hidden_states, aux_loss = self.two_stage_attention(hidden_states, masks, spatial_code, **kwargs)
        return hidden_states, masks, aux_loss


class NeurIPTReadout(nn.Linear):
    """A linear layer from hidden states to predictions; a class of its own for its small initial weights."""


class NeurIPTCompactEmbedding(nn.Module):
    """
    Estimates the numbers of a window (`compact_embedding.py`): those that are observed in the signal, plus one linear
    layer from the pooled vectors, each brought to the same length.
    """

    def __init__(self, config: NeurIPTConfig):
        super().__init__()
        # without weights, so that a lobe without channels, all zeros, stays so
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, elementwise_affine=False)
        self.proj = NeurIPTReadout(config.num_pooled_features, config.embedding_size)
        self.observed = config.num_observed_numbers

    def forward(self, pooled: Tensor, numbers: WindowNumbers) -> Tensor:
        """Pooled vectors `[B, scales, G, d]` and the numbers of the signal -> `[B, embedding_size]`."""
        features = self.norm(pooled).flatten(1)
        # of length 1: Adam moves all weights by the same step, and thousands of inputs of size 1 would add up
        estimate = self.proj(features * features.shape[1] ** -0.5)
        observed = F.pad(numbers.values[:, : self.observed], (0, estimate.shape[1] - self.observed))
        return (estimate + observed.to(estimate.dtype)) * numbers.known


class NeurIPTEncoded(NamedTuple):
    """
    What the encoder makes of windows: all `scales [B, C, L, d]`, the `masks` at each of them, the experts' auxiliary
    loss (in training), the tokens and codes, and the `signal [B, C, T]` as the model sees it, companded.
    """

    scales: list[Tensor]
    masks: list[TokenMasks]
    aux_loss: Tensor | float
    embedded: NeurIPTEmbedded
    signal: Tensor


class NeurIPTPreTrainedModel(WeightsHistory, LinkSafeSaving, PreTrainedModel):
    """What the three models share: names, capabilities, initial weights and what is known of their history."""

    config: NeurIPTConfig
    base_model_prefix = "neuript"
    main_input_name = "input_values"
    _input_embed_layer = "token"  # what get_ and set_input_embeddings look for in `embeddings`
    input_modalities = ("time",)
    # The losses are means over a batch: without this, Trainer would multiply them under gradient accumulation.
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _no_split_modules = ["NeurIPTEmbeddings", "NeurIPTEncoderLayer", "NeurIPTDecoderLayer", "NeurIPTCrossDecoderLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # What remains of a checkpoint when another of the three models takes its encoder.
    _keys_to_ignore_on_load_unexpected = [
        r"^(decoder|decoder_input|mask_token|spectral_head|course_head|classifier)\b"
    ]
    _can_record_outputs = {
        "hidden_states": NeurIPTEncoderLayer,
        "attentions": OutputRecorder(
            NeurIPTAttention, index=1, layer_name="layers"
        ),  # the encoder's, not the decoder's
        "router_logits": OutputRecorder(NeurIPTRouter, index=0, layer_name="layers"),
    }

    # transformers reads these two from the source file of the class, but a head written in a notebook has none.
    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True

    def _grouped_mm_can_dispatch(self) -> bool:
        """Raises if torch's grouped product, whose rows must be multiples of 16 bytes, can't run the experts."""
        sizes = {name: getattr(self.config, name) for name in ("hidden_size", "moe_intermediate_size")}
        counts = (*self.config.num_experts, *self.config.decoder_num_experts, *self.config.cross_num_experts)
        if any(size % 8 for size in sizes.values()) and any(counts):
            raise ValueError(
                f"experts_implementation='grouped_mm' needs multiples of 8, but the configuration has {sizes}. Use "
                "'eager', which is also what runs if you name none."
            )
        return super()._grouped_mm_can_dispatch()

    def get_correct_experts_implementation(self, requested_experts: str | None) -> str:
        """Unless another is asked for, "eager": the fastest on a GPU (docs/ecosystem.md)."""
        return super().get_correct_experts_implementation(requested_experts or "eager")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        # Kaiming-normal weights and zero biases (paper table 13), the [mask] vector N(0, 1) (docs/model.md section 7).
        # The functions of transformers' `init` leave alone what a checkpoint has filled.
        mark_drawn(module)
        if isinstance(module, NeurIPTReadout):
            # with Kaiming weights the classifier, of thousands of unnormalised features, would start with logits of 5
            # and more, and the reconstruction with ten times the signal's variance: confident, and wrong
            init.normal_(module.weight, std=0.1 * module.in_features**-0.5)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.kaiming_normal_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, NeurIPTExperts):
            # fan-in is the last dimension; torch would count the experts of a 3-D weight into it
            for weight in (module.gate_up_proj, module.down_proj):
                init.normal_(weight, std=math.sqrt(2 / weight.shape[-1]))
            init.zeros_(module.gate_up_proj_bias)
            init.zeros_(module.down_proj_bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, NeurIPTForPreTraining) and module.config.decoder_type == "attention":
            init.normal_(module.mask_token)


class NeurIPTModel(NeurIPTPreTrainedModel):
    """The encoder: a window of EEG -> seven scales of hidden states and their lobe-pooled vector."""

    def __init__(self, config: NeurIPTConfig):
        super().__init__(config)
        self.embeddings = NeurIPTEmbeddings(config)
        self.layers = nn.ModuleList([NeurIPTEncoderLayer(config, i) for i in range(config.num_hidden_layers)])
        self.compact_embedding = NeurIPTCompactEmbedding(config) if config.compact_embedding else None
        self.post_init()

    def encode(
        self,
        input_values: Tensor,
        electrode_positions: Tensor | None = None,
        channel_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        hidden_positions: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NeurIPTEncoded:
        """All scales of the hidden states, and what is known of them; arguments as in `forward`."""
        if input_values.dim() != 3 or 0 in input_values.shape:
            raise ValueError(f"input_values must be [B, C, T], none of them 0, but are {list(input_values.shape)}.")
        batch, num_channels, num_samples = input_values.shape
        for name, tensor, shape in (
            ("electrode_positions", electrode_positions, [batch, num_channels, 3]),
            ("channel_mask", channel_mask, [batch, num_channels]),
            ("attention_mask", attention_mask, [batch, num_samples]),
            ("hidden_positions", hidden_positions, [batch, num_channels, num_samples]),
        ):
            if tensor is not None and list(tensor.shape) != shape:
                raise ValueError(
                    f"{name} must have shape {shape} beside these input_values, has {list(tensor.shape)}."
                )
        for name, mask in (("channel_mask", channel_mask), ("attention_mask", attention_mask)):
            # Reading a mask makes a GPU wait; a compiled or exported model cannot do it.
            if mask is None or torch.compiler.is_compiling() or mask.is_meta:
                continue
            if not (keeps_some := mask.bool().any(dim=1)).all():
                raise ValueError(
                    f"{name} is all false in the windows {torch.where(~keeps_some)[0].tolist()} of the batch: no good "
                    "channel or no real sample is left. Leave these windows out; where the feature extractor made "
                    "them, its report says why channels are bad."
                )
        masks = TokenMasks(
            None if attention_mask is None else attention_mask.bool(),
            None if channel_mask is None else channel_mask.bool(),
            None if hidden_positions is None else hidden_positions.bool(),
        )
        if masks.hidden is not None and self.config.hidden_fill == "line":
            input_values = fill_linear(input_values, masks.visible(input_values))
        elif masks.hidden is not None and self.config.strict_masking:
            input_values = input_values.masked_fill(masks.hidden, 0.0)
        embedded = self.embeddings(input_values, electrode_positions)
        hidden_states = embedded.tokens

        scales, scale_masks, aux_loss = [hidden_states], [masks], 0.0
        for index, layer in enumerate(self.layers):
            spatial_code = embedded.spatial_code if index == 0 else None
            hidden_states, masks, layer_loss = layer(hidden_states, masks, spatial_code, **kwargs)
            aux_loss = aux_loss + layer_loss
            scales.append(hidden_states)
            scale_masks.append(masks)
        return NeurIPTEncoded(scales, scale_masks, aux_loss, embedded, input_values)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_values: Tensor,
        electrode_positions: Tensor | None = None,
        lobe_mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        hidden_positions: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NeurIPTModelOutput:
        """
        Args:
            input_values (`torch.FloatTensor` of shape `(B, C, T)`): companded signal, 64 samples a second.
            electrode_positions (`torch.FloatTensor` of shape `(B, C, 3)`): right, front, up, in grid units.
            lobe_mask (`torch.BoolTensor` of shape `(B, C, num_lobes)`): lobes of each channel, for `pooler_output`.
            channel_mask (`torch.BoolTensor` of shape `(B, C)`): true = a real and good channel; default all.
            attention_mask (`torch.BoolTensor` of shape `(B, T)`): true = a real sample, right padding; default all.
            hidden_positions (`torch.BoolTensor` of shape `(B, C, T)`): samples that the model must not see.

        Raises:
            ValueError: if shapes contradict each other, a window has no good channel or real sample (not
                checked in a compiled model), or the positions or lobes that the configuration needs are not given.
        """
        encoded = self.encode(
            input_values, electrode_positions, channel_mask, attention_mask, hidden_positions, **kwargs
        )
        groups = self.groups(encoded, lobe_mask, electrode_positions)
        pooled = self.pool(encoded, groups)
        numbers = self.numbers(encoded.signal, encoded.masks[0], groups, electrode_positions)
        block = None if numbers is None else numbers.connectivity
        return NeurIPTModelOutput(
            last_hidden_state=encoded.scales[-1],
            pooler_output=None if pooled is None else pooled.flatten(1),
            connectivity=None if block is None else block.numbers,
            embedding=self.embed(pooled, numbers),
            aux_loss=encoded.aux_loss if isinstance(encoded.aux_loss, Tensor) else None,
        )

    def groups(
        self, encoded: NeurIPTEncoded, lobe_mask: Tensor | None, electrode_positions: Tensor | None
    ) -> Tensor | None:
        """The groups of channels that are averaged, bool `[B or 1, C, G]`; `None` without lobes to pool."""
        tokens, masks = encoded.scales[0], encoded.masks[0]
        groups = channel_groups(self.config, lobe_mask, electrode_positions, tokens.shape[1], masks.channels)
        return None if groups is None else groups.to(tokens.device, torch.bool)

    def pool(self, encoded: NeurIPTEncoded, groups: Tensor | None) -> Tensor | None:
        """The head's scales, group by group: `[B, scales, G, d]`."""
        if groups is None:
            return None
        scales = self.config.head_scales
        return torch.stack([lobe_pooling(encoded.scales[i], groups, encoded.masks[i]) for i in scales], dim=1)

    def numbers(
        self, signal: Tensor, masks: TokenMasks, groups: Tensor | None, electrode_positions: Tensor | None
    ) -> WindowNumbers | None:
        """The numbers of a companded signal `[B, C, T]`, if the configuration asks for any and there are groups."""
        if groups is None or not (self.config.compact_embedding or self.config.connectivity_bands):
            return None
        return window_numbers(self.config, signal, masks, groups, electrode_positions)

    def embed(self, pooled: Tensor | None, numbers: WindowNumbers | None) -> Tensor | None:
        """The compact embedding `[B, embedding_size]`, of a model that has one."""
        if self.compact_embedding is None or pooled is None:
            return None
        return self.compact_embedding(pooled, numbers)


# Pre-training (docs/model.md sections 7 and 8)


class NeurIPTCrossDecoderLayer(GradientCheckpointingLayer):
    """Cross-attention along time to one scale of the encoder, then a prediction. The light decoder has only these."""

    def __init__(self, config: NeurIPTConfig, feed_forward: nn.Module):
        super().__init__()
        size = config.decoder_size or config.hidden_size
        self.query_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.memory_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.cross_attention = NeurIPTAttention(config, config.decoder_size)
        self.feed_forward_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.prediction = NeurIPTReadout(size, 1)

    def forward(
        self,
        hidden_states: Tensor,
        memory: Tensor,
        masks: TokenMasks,
        memory_masks: TokenMasks,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        """`[B, C, T, size]`, a scale `[B, C, L, d]` -> `[B, C, T, size]`, prediction `[B, C, T]`, auxiliary loss."""
        query = self.query_norm(hidden_states)
        attended, _ = self.cross_attention(
            query.flatten(0, 1),
            self.memory_norm(memory).flatten(0, 1),
            key_mask(memory_masks._replace(hidden=None), query.shape[1], strict_masking=True),
            **kwargs,
        )
        # the residual is the normed query (authors' code)
        states = self.feed_forward_norm(query + self.dropout(attended.view_as(query)))
        update, aux_loss = self.feed_forward(states, masks.valid())
        hidden_states = states + update
        return hidden_states, self.prediction(hidden_states)[..., 0], aux_loss


class NeurIPTDecoderLayer(NeurIPTCrossDecoderLayer):
    """The paper's decoder layer: two-stage attention comes first."""

    def __init__(self, config: NeurIPTConfig, scale: int):
        super().__init__(config, feed_forward_block(config, config.cross_num_experts[scale]))
        self.two_stage_attention = NeurIPTTwoStageAttention(config, config.decoder_num_experts[scale])

    def forward(
        self,
        hidden_states: Tensor,
        memory: Tensor,
        masks: TokenMasks,
        memory_masks: TokenMasks,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        hidden_states, two_stage_loss = self.two_stage_attention(hidden_states, masks, **kwargs)
        hidden_states, prediction, cross_loss = super().forward(hidden_states, memory, masks, memory_masks, **kwargs)
        return hidden_states, prediction, two_stage_loss + cross_loss


class NeurIPTLinearDecoderLayer(nn.Module):
    """Our own cheapest decoder: one linear layer from the segments of a scale to their samples, hidden or not."""

    def __init__(self, config: NeurIPTConfig, scale: int):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.readout = NeurIPTReadout(config.hidden_size, math.prod(config.merge_sizes[:scale]))

    def forward(self, hidden_states: Tensor, num_samples: int) -> Tensor:
        """One scale `[B, C, L, d]` -> prediction `[B, C, T]`."""
        return self.readout(self.norm(hidden_states)).flatten(-2)[..., :num_samples]


def decoder_layer(config: NeurIPTConfig, scale: int) -> NeurIPTCrossDecoderLayer | NeurIPTLinearDecoderLayer:
    """The decoder's layer for one scale; the light and the linear decoder are not the paper's."""
    if config.decoder_type == "linear":
        return NeurIPTLinearDecoderLayer(config, scale)
    if config.decoder_size is None:
        return NeurIPTDecoderLayer(config, scale)
    return NeurIPTCrossDecoderLayer(config, NeurIPTFeedForward(config, 2 * config.decoder_size, config.decoder_size))


class NeurIPTForPreTraining(NeurIPTPreTrainedModel):
    """Encoder and decoder for amplitude-aware masked pre-training: reconstructs the hidden samples."""

    def __init__(self, config: NeurIPTConfig):
        super().__init__(config)
        self.neuript = NeurIPTModel(config)
        self.decoder = nn.ModuleList([decoder_layer(config, scale) for scale in range(config.num_scales)])
        if config.decoder_type == "attention":
            self.mask_token = nn.Parameter(torch.empty(config.hidden_size))
        if config.decoder_size is not None:
            self.decoder_input = nn.Linear(config.hidden_size, config.decoder_size)
        for name, targets in head_sizes(config).items():
            self.add_module(name, NeurIPTReadout(config.num_scales * config.hidden_size, targets))
        self.post_init()

    @can_return_tuple
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_values: Tensor,
        electrode_positions: Tensor | None = None,
        lobe_mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        masked_positions: Tensor | None = None,
        hidden_positions: Tensor | None = None,
        labels: Tensor | None = None,
        spectral_targets: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NeurIPTForPreTrainingOutput:
        """
        As in the encoder, and:

        Args:
            lobe_mask: needed for a compact embedding; nothing else is pooled here.
            masked_positions (`torch.BoolTensor` of shape `(B, C, T)`): selected samples, where the loss looks; default
                every real sample.
            labels (`torch.FloatTensor` of shape `(B, C, T)`): true values, companded.
            spectral_targets (`torch.FloatTensor` of shape `(B, C, targets)`): true spectrum of each channel
                (`auxiliary_targets.py`).

        Raises:
            ValueError: as the encoder, and for spectral targets that the configuration does not ask for.
        """
        encoded = self.neuript.encode(
            input_values, electrode_positions, channel_mask, attention_mask, hidden_positions, **kwargs
        )
        scales, masks = encoded.scales, encoded.masks
        reconstruction, decoder_loss = self.decode(scales, masks, encoded.embedded, **kwargs)
        if self.config.hidden_fill == "line":
            reconstruction = reconstruction + fill_linear(input_values, masks[0].visible(input_values))

        losses = {}
        if labels is not None:
            selected = (
                torch.ones_like(labels, dtype=torch.bool) if masked_positions is None else masked_positions.bool()
            )
            if (valid := masks[0].valid()) is not None:
                selected = selected & valid
            losses["reconstruction_loss"] = reconstruction_loss(
                reconstruction,
                labels,
                selected,
                self.config.reconstruction_exponent,
                self.config.reconstruction_root,
                self.training,
            )
        auxiliary = auxiliary_outputs(self, scales, masks, labels, spectral_targets)
        if self.config.compact_embedding:
            auxiliary |= self.embedding_outputs(encoded, lobe_mask, electrode_positions, labels)
        aux_loss = encoded.aux_loss + decoder_loss  # 0.0 outside training
        aux_loss = aux_loss if isinstance(aux_loss, Tensor) else None
        terms = [*losses.values(), *weighted_losses(self.config, auxiliary)]
        if terms and aux_loss is not None:
            terms.append(self.config.router_aux_loss_coef * aux_loss)
        return NeurIPTForPreTrainingOutput(
            loss=sum(terms) if terms else None, logits=reconstruction, aux_loss=aux_loss, **losses, **auxiliary
        )

    def embedding_outputs(
        self,
        encoded: NeurIPTEncoded,
        lobe_mask: Tensor | None,
        electrode_positions: Tensor | None,
        labels: Tensor | None,
    ) -> dict[str, Tensor]:
        """The compact embedding, and its loss against the numbers of the true samples where these are given."""
        encoder, masks = self.neuript, encoded.masks[0]
        if (groups := encoder.groups(encoded, lobe_mask, electrode_positions)) is None:
            raise ValueError(
                "A compact embedding needs lobe_mask [B, C, num_lobes]; take it from the feature extractor's output."
            )
        numbers = encoder.numbers(encoded.signal, masks, groups, electrode_positions)
        embedding = encoder.embed(encoder.pool(encoded, groups), numbers)
        targets = None if labels is None else encoder.numbers(labels, masks, groups, electrode_positions)
        return embedding_outputs(embedding, targets, self.training)

    def decode(
        self,
        scales: list[Tensor],
        masks: list[TokenMasks],
        embedded: NeurIPTEmbedded,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor | float]:
        """The reconstruction `[B, C, T]`, the sum of one prediction for each scale, and the auxiliary loss."""
        num_samples = scales[0].shape[2]
        if self.config.decoder_type == "linear":
            return sum(layer(states, num_samples) for layer, states in zip(self.decoder, scales, strict=True)), 0.0
        hidden = masks[0].hidden
        hidden_states = embedded.temporal_code
        if self.config.decoder_input == "visible":
            hidden_states = scales[0] if hidden is None else torch.where(hidden[..., None], hidden_states, scales[0])
        hidden_states = hidden_states + embedded.spatial_code[:, :, None]
        if self.config.decoder_size is not None:
            hidden_states = self.decoder_input(hidden_states)
        hidden_states = hidden_states.expand(scales[0].shape[0], -1, -1, -1)
        if torch.is_grad_enabled() and self.decoder[0].gradient_checkpointing and not hidden_states.requires_grad:
            # reentrant checkpointing trains a layer only if one of its inputs asks for a gradient
            hidden_states = hidden_states.clone().requires_grad_()
        # The decoder works on places, not on signal: nothing is hidden from itself, only padding is shut out.
        own_masks = masks[0]._replace(hidden=None)

        reconstruction, aux_loss = 0.0, 0.0
        for layer, memory, memory_masks in zip(self.decoder, scales, masks, strict=True):
            if memory_masks.hidden is not None:
                memory = torch.where(memory_masks.hidden[..., None], self.mask_token, memory)
            hidden_states, prediction, layer_loss = layer(hidden_states, memory, own_masks, memory_masks, **kwargs)
            reconstruction = reconstruction + prediction
            aux_loss = aux_loss + layer_loss
        return reconstruction, aux_loss


# Classification (docs/model.md section 8)


class NeurIPTForSequenceClassification(NeurIPTPreTrainedModel):
    """
    Encoder, intra-inter lobe pooling and one linear layer: a window of EEG -> scores of classes or labels, or numbers.
    """

    def __init__(self, config: NeurIPTConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.neuript = NeurIPTModel(config)
        self.classifier = NeurIPTReadout(config.num_head_features, config.num_labels)
        self.post_init()

    @property
    def groups_read(self) -> Tensor:
        """
        The pooling groups that the head reads, bool `[G]`. Where no training window had a channel in a group, such as
        a lobe, a head that starts from a regression has weights of exactly 0 for it.
        """
        about = self._groups_of_features
        read = (self.classifier.weight.detach() != 0).any(dim=0)
        return (read[:, None] & about.to(read.device)).any(dim=0).cpu()

    def blank_groups(self, groups: Tensor) -> None:
        """Sets the head's weights for what is about the pooling groups `groups`, bool `[G]`, to 0."""
        about = (self._groups_of_features & groups.cpu()).any(dim=1)
        with torch.no_grad():
            self.classifier.weight[:, about.to(self.classifier.weight.device)] = 0

    @property
    def _groups_of_features(self) -> Tensor:
        """Which groups each number that the head reads is about, bool `[features, G]`."""
        if self.config.compact_embedding:
            return groups_of_numbers(self.config)
        groups = torch.eye(self.config.num_pooling_groups, dtype=torch.bool)
        return groups.repeat_interleave(self.config.hidden_size, dim=0).repeat(len(self.config.head_scales), 1)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        electrode_positions: Tensor | None = None,
        lobe_mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NeurIPTClassifierOutput:
        """
        As in the encoder, and:

        Args:
            labels (`torch.Tensor`): by `config.problem_type`, which the first labelled call sets if it is `None`, as
                transformers does: integers of shape `(B,)`, the class of each window; 0 and 1 of shape
                `(B, num_labels)`, the labels it has; or numbers of shape `(B, num_labels)`, or `(B,)` for one, to
                predict.

        Raises:
            ValueError: as the encoder, and for labels that are out of range (not checked in a compiled model) or of a
                kind that the problem type cannot take.
        """
        outputs = self.neuript(input_values, electrode_positions, lobe_mask, channel_mask, attention_mask, **kwargs)
        if outputs.features is None:
            raise ValueError(
                "lobe_mask [B, C, num_lobes] is needed; take it from the feature extractor's output or from "
                "extractor.channel_features(channel_names)."
            )
        logits = self.classifier(outputs.features)
        if self.config.target_scale is not None:
            # in float32 also beside a head in half precision, which has too few digits for a number far from 0
            mean, scale = torch.tensor(
                [self.config.target_mean, self.config.target_scale], dtype=torch.float32, device=logits.device
            )
            logits = logits * scale + mean

        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, self.config)
            if self.config.problem_type is None:
                self.config.problem_type = problem_type_of(self.config, labels)
            if outputs.aux_loss is not None:
                loss = loss + self.config.router_aux_loss_coef * outputs.aux_loss
        return NeurIPTClassifierOutput(
            loss=loss,
            logits=logits,
            aux_loss=outputs.aux_loss,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            router_logits=outputs.router_logits,
        )


__all__ = ["NeurIPTForPreTraining", "NeurIPTForSequenceClassification", "NeurIPTModel", "NeurIPTPreTrainedModel"]
