"""
What the three models return, with transformers' names if it has one.

Letters for shapes as in the models: B windows, C channels, T samples, L segments of a scale, L6 those of the coarsest,
d hidden size, H heads, E experts, n tokens.
"""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import ModelOutput


@dataclass
class NeurIPTModelOutput(ModelOutput):
    """
    What the encoder gives.

    Args:
        last_hidden_state (`(B, C, L6, d)`): the coarsest scale.
        pooler_output (`(B, scales * groups * d)`): the intra-inter lobe pooling vector. `None` where the pooling needs
            a `lobe_mask` and none was given, as are the next two.
        connectivity (`(B, groups * power bands + pairs of groups * bands)`): log power of the groups, then Fisher z of
            the correlations within and between groups (`connectivity.py`), if the configuration has bands.
        embedding (`(B, embedding_size)`): the compact embedding, if the configuration has one.
        hidden_states (`tuple` of `(B, C, L, d)`): all seven scales, with `output_hidden_states=True`.
        attentions (`tuple` of `(rows, H, queries, keys)`): time (rows B * C), then channel attention (rows B * L)
            of each layer, with `output_attentions=True` and eager attention.
        router_logits (`tuple` of `(n, E)`): one entry for each expert block, with `output_router_logits=True`.
        aux_loss (scalar): sum of the experts' auxiliary losses; in training only.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    connectivity: torch.FloatTensor | None = None
    embedding: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    router_logits: tuple[torch.FloatTensor, ...] | None = None
    aux_loss: torch.FloatTensor | None = None

    @property
    def features(self) -> torch.FloatTensor | None:
        """The vector to use, which a classifier reads: `embedding` of a model that has one, else `pooler_output`."""
        return self.pooler_output if self.embedding is None else self.embedding


@dataclass
class NeurIPTClassifierOutput(ModelOutput):
    """
    What the classifier gives: `loss` (task loss plus weighted auxiliary loss, where `labels` are given), `logits
    (B, num_labels)` before softmax (or sigmoid, with Bal-BCE), and the encoder's optional outputs.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    aux_loss: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    router_logits: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class NeurIPTForPreTrainingOutput(NeurIPTClassifierOutput):
    """
    The same with the reconstruction `(B, C, T)`, companded, as `logits`; also readable as `reconstruction`. `loss` is
    `reconstruction_loss` plus the weighted others: `aux_loss` (in training), and if the configuration asks for these
    targets, `spectral_loss` with `spectral_logits (B, C, targets)`, `time_course_loss` with `time_course_logits
    (B, C, bins)`, and `embedding_loss` with the compact `embedding (B, embedding_size)`.
    """

    reconstruction_loss: torch.FloatTensor | None = None
    spectral_loss: torch.FloatTensor | None = None
    spectral_logits: torch.FloatTensor | None = None
    time_course_loss: torch.FloatTensor | None = None
    time_course_logits: torch.FloatTensor | None = None
    embedding: torch.FloatTensor | None = None
    embedding_loss: torch.FloatTensor | None = None

    @property
    def reconstruction(self) -> torch.FloatTensor:
        return self.logits


__all__ = ["NeurIPTClassifierOutput", "NeurIPTForPreTrainingOutput", "NeurIPTModelOutput"]
