"""Configuration of NeurIPT (arXiv 2510.16548): sizes, variants and the switches between paper and released code."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .connectivity import SAMPLING_RATE, connectivity_size
from .link_safe_saving import LinkSafeSaving


# The models by the Auto class that finds them.
MODEL_CLASSES = {
    "AutoModel": "NeurIPTModel",
    "AutoModelForPreTraining": "NeurIPTForPreTraining",
    "AutoModelForSequenceClassification": "NeurIPTForSequenceClassification",
}
# Where a Hub folder's code files hold the classes, for trust_remote_code.
AUTO_MAP = {"AutoConfig": "configuration_neuript.NeurIPTConfig"}
AUTO_MAP |= {auto_class: f"modeling_neuript.{name}" for auto_class, name in MODEL_CLASSES.items()}
# What transformers keeps in a configuration beside its fields.
_KEPT_BESIDE_FIELDS = {"auto_map", "custom_pipelines", "model_type", "num_labels", "quantization_config", "use_cache"}


def warn_of_unknown(owner: str, names: Iterable[str], known: Sequence[str], stacklevel: int) -> None:
    """A misspelt name would otherwise leave a default in place without a word: a warning names the nearest one."""
    for name in sorted(set(names) - set(known)):
        if not name.startswith("_"):
            nearest = get_close_matches(name, known, n=1)
            hint = f"Did you mean {nearest[0]!r}?" if nearest else f"Known: {', '.join(known)}."
            warnings.warn(f"{owner} has no {name!r}: nothing reads it. {hint}", stacklevel=stacklevel)


@strict
class NeurIPTConfig(LinkSafeSaving, PreTrainedConfig):
    r"""
    Everything that decides what a NeurIPT model computes (docs/model.md), in three blocks: the paper's model, whose
    base size is the default; switches for the authors' released code, which a converted checkpoint sets by itself; and
    our own research, off by default.

    Args:
        hidden_size (`int`): dimension d of every token; even, and a multiple of `num_attention_heads`.
        intermediate_size (`int`): inner width of the dense feed-forward blocks.
        num_hidden_layers (`int`): encoder layers. There are `num_hidden_layers + 1` scales: the tokens and the output
            of each layer.
        num_attention_heads (`int`): heads of every attention.
        merge_sizes (`list[int]`): for each encoder layer, how many neighbouring segments it merges first (1 = none).
        num_experts (`list[int]`): for each encoder layer, the routed experts of each of its two feed-forward blocks
            (0 = dense block).
        moe_intermediate_size (`int`): inner width of a routed expert.
        shared_expert_intermediate_size (`int`): inner width of the expert that processes every token.
        expert_top_k_ratio (`float`): a token uses `ceil(ratio * experts)` routed experts.
        router_noise (`float`): standard deviation of the noise on the router logits in training.
        router_importance_coef (`float`): weight of the importance term inside the auxiliary loss.
        router_aux_loss_coef (`float`): weight of the auxiliary loss in the training loss.
        hidden_act (`str`): `"swiglu"`, `"gelu"` or `"relu"` (paper table 7).
        hidden_dropout (`float`): dropout on what each sub-block adds to the residual stream.
        attention_dropout (`float`): dropout on attention probabilities.
        layer_norm_eps (`float`): epsilon of every layer norm.
        decoder_num_experts (`list[int]` or `None`): experts of the feed-forward blocks in the decoder's two-stage
            attention, one entry for each scale; `None` = all dense.
        cross_num_experts (`list[int]` or `None`): the same for the block after the decoder's cross-attention.
        decoder_input (`str`): `"positions"` starts the decoder from position codes alone, `"visible"` adds the tokens
            of visible samples (paper eq. 6).
        position_encoding (`str`): `"3d"` (electrode coordinates), `"channel_index"` (sinusoid of the channel number),
            `"learned_1d"` (a vector for each channel number) or `"learned_2d"` (vectors for channel and sample
            numbers); paper table 11.
        max_channels (`int`): number of channels that a learned position code covers.
        max_samples (`int`): number of samples that `"learned_2d"` covers.
        pooling (`str`): groups of channels that the head averages (paper table 5): `"lobes"` (from `lobe_mask`),
            `"none"` (every channel by itself; `num_lobes` is then the number of channels), `"mean"`, `"hemispheres"`,
            `"coronal"` or `"sagittal"` (from the coordinates, head frame).
        num_lobes (`int`): columns of `lobe_mask`.
        pooled_scales (`list[int]` or `None`): scales that the head reads; `None` = all of them.
        loss_type (`str`): classification loss, `"cross_entropy"` or `"balanced_bce"` (paper C.4). Several labels at
            once have the mean of their binary cross entropies, with `"balanced_bce"` the sum; regression has the
            squared error.
        untrained_weights (`list[str]` or `None`): weights that are as they were drawn at random, set by
            `save_pretrained`; the pipelines refuse to answer from them.
        class_prior (`list[float]` or `None`): share of each class in the training set, for `"balanced_bce"`.
        prior_weight (`float`): K of `"balanced_bce"`; 0 leaves the prior out.
        reconstruction_exponent (`float`): p of the pre-training loss, mean of |error|^p (paper eq. 7).
        reconstruction_root (`bool`): take the p-th root of that mean, as paper eq. 7 prints it.

        channel_groups (`list[list[int]]` or `None`): channel numbers, from 0, of each group that the head averages, in
            place of the groups that `pooling` would make. The authors list them for their montages
            (`pooling.AUTHORS_GROUPS`); only for windows whose channels always have the same order.
        normalize_router_probs (`bool`): divide the kept router probabilities by their sum (paper eq. 8); the authors'
            code does not.
        expert_capacity_factor (`float` or `None`): an expert takes `floor(factor * tokens / experts)` tokens of a
            batch and drops the rest (authors' code: 1.0); `None` drops nothing, so that a window's output never
            depends on its batch.
        balance_loss (`str`): `"fraction"` (E sum f P) or `"squared_mass"` (authors' code; fades with the number of
            tokens).
        strict_masking (`bool`): hidden samples are zeroed and excluded as keys; `False` is the authors' code, where
            their values stay and only their queries are shut off.

        target_mean (`list[float]` or `None`): mean of each number to predict in the training set, for regression. The
            head then learns standardised numbers, and `logits` are in the unit of the labels all the same.
        target_scale (`list[float]` or `None`): standard deviation of the same numbers; goes with `target_mean`.
        hidden_fill (`str`): what replaces hidden samples: `"zero"`, as in the paper, or `"line"`, a straight line in
            time between the visible samples; the decoder then predicts the departure from the line.
        decoder_type (`str`): `"attention"`, or `"linear"`, one linear layer for each scale from its segments to their
            samples.
        decoder_size (`int` or `None`): `None` is the paper's decoder. A number is the width of a light one, without
            self-attention and with a feed-forward block of twice that width.
        spectral_mean (`list[float]` or `None`): mean over the training windows of the numbers that describe a
            channel's spectrum (`training.spectral_target`). If given, pre-training also predicts these numbers,
            standardised, from the time averages of all scales.
        spectral_scale (`list[float]` or `None`): standard deviation of the same numbers; goes with `spectral_mean`.
        spectral_loss_weight (`float`): weight of that loss beside the reconstruction's.
        time_course_bins (`int` or `None`): if given, pre-training also predicts the slow time course of a window
            from the time averages of all scales: the means of this number of bins of 8 samples from the start.
        time_course_loss_weight (`float`): weight of that loss beside the reconstruction's.
        connectivity_bands (`list[list[int]]` or `None`): `[low, high)` of each band in whole hertz, 1 to 31. If given,
            the model also computes each lobe's power in these bands, and the correlations within and between lobes
            (`connectivity.py`), as `connectivity`.
        power_bands (`list[list[int]]` or `None`): other bands for the power, such as finer ones; `None` = the same.
        companding_a (`float` or `None`): the feature extractor's, to turn `input_values` back into microvolts for
            these numbers; `None` = they are microvolts.
        compact_embedding (`bool`): estimate `connectivity` and the slow time course of each lobe (`time_course_bins`)
            as `embedding`, which a classifier then reads in place of `pooler_output` (`compact_embedding.py`).
        embedding_observed (`str`): which of these numbers are computed from the signal and only corrected by the
            network: `"none"`, `"connectivity"` or `"all"`.
        embedding_loss_weight (`float`): weight of that loss beside the reconstruction's.

    A field that does not exist is kept, as transformers does it, with a warning that names the nearest field.

    Raises:
        huggingface_hub.errors.StrictDataclassError: (contains a `ValueError`) if a field has a wrong type or fields
            contradict each other.
    """

    model_type = "neuript"
    # Trainer does not gather these: their shapes differ from montage to montage
    keys_to_ignore_at_inference = ["aux_loss", "hidden_states", "attentions", "router_logits"]
    # the first edition's checkpoints have these names
    attribute_map = {"course_parts": "time_course_bins", "course_loss_weight": "time_course_loss_weight"}

    # The paper's model
    hidden_size: int = 768
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    merge_sizes: list[int] | tuple[int, ...] = (1, 4, 1, 2, 1, 2)
    num_experts: list[int] | tuple[int, ...] = (0, 0, 2, 4, 4, 6)
    moe_intermediate_size: int = 512
    shared_expert_intermediate_size: int = 768
    expert_top_k_ratio: float | int = 0.5
    router_noise: float | int = 0.001
    router_importance_coef: float | int = 0.008
    router_aux_loss_coef: float | int = 0.8
    hidden_act: Literal["swiglu", "gelu", "relu"] = "swiglu"
    hidden_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5
    decoder_num_experts: list[int] | tuple[int, ...] | None = None
    cross_num_experts: list[int] | tuple[int, ...] | None = None
    decoder_input: Literal["positions", "visible"] = "positions"
    position_encoding: Literal["3d", "channel_index", "learned_1d", "learned_2d"] = "3d"
    max_channels: int = 128
    max_samples: int = 4096
    pooling: Literal["lobes", "none", "mean", "hemispheres", "coronal", "sagittal"] = "lobes"
    num_lobes: int = 5
    pooled_scales: list[int] | tuple[int, ...] | None = None
    # as in transformers, which does not check it
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None
    loss_type: Literal["cross_entropy", "balanced_bce"] = "cross_entropy"
    class_prior: list[float] | tuple[float, ...] | None = None
    untrained_weights: list[str] | tuple[str, ...] | None = None
    prior_weight: float | int = 0.0
    reconstruction_exponent: float | int = 2.0
    reconstruction_root: bool = False

    # Switches for the authors' code
    channel_groups: list[list[int]] | tuple[tuple[int, ...], ...] | None = None
    normalize_router_probs: bool = True
    expert_capacity_factor: float | int | None = None
    balance_loss: Literal["fraction", "squared_mass"] = "fraction"
    strict_masking: bool = True

    # Our own research
    target_mean: list[float] | tuple[float, ...] | None = None
    target_scale: list[float] | tuple[float, ...] | None = None
    hidden_fill: Literal["zero", "line"] = "zero"
    decoder_type: Literal["attention", "linear"] = "attention"
    decoder_size: int | None = None
    spectral_mean: list[float] | tuple[float, ...] | None = None
    spectral_scale: list[float] | tuple[float, ...] | None = None
    spectral_loss_weight: float | int = 1.0
    time_course_bins: int | None = None
    time_course_loss_weight: float | int = 1.0
    connectivity_bands: list[list[int]] | tuple[tuple[int, int], ...] | None = None
    power_bands: list[list[int]] | tuple[tuple[int, int], ...] | None = None
    companding_a: float | None = 0.25
    compact_embedding: bool = False
    embedding_observed: Literal["none", "connectivity", "all"] = "connectivity"
    embedding_loss_weight: float | int = 1.0

    def __post_init__(self, **kwargs):
        if self.decoder_num_experts is None:
            self.decoder_num_experts = [0] * (self.num_hidden_layers + 1)
        if self.cross_num_experts is None:
            self.cross_num_experts = [0] * (self.num_hidden_layers + 1)
        # Each save would add only the class that is saved; listed here, every config.json has all of them.
        kwargs.setdefault("auto_map", dict(AUTO_MAP))
        # A Hub folder names its pipeline here for those who trust its code; whoever has the package has the pipeline.
        if __package__ == "neuript_hf":
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        self._warn_of_unknown_fields(kwargs)

    def _warn_of_unknown_fields(self, kwargs: dict) -> None:
        known = [field.name for field in fields(self)] + list(self.attribute_map) + sorted(_KEPT_BESIDE_FIELDS)
        # transformers sets what it does not know as an attribute
        warn_of_unknown("NeurIPTConfig", set(vars(self)) & set(kwargs), known, stacklevel=6)

    @classmethod
    def tiny(cls, **kwargs) -> "NeurIPTConfig":
        """The size for laptops, demo and tests (hidden 96); keyword arguments override fields."""
        sizes = {
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_attention_heads": 4,
            "moe_intermediate_size": 48,
            "shared_expert_intermediate_size": 96,
        }
        return cls(**(sizes | kwargs))

    @classmethod
    def small(cls, **kwargs) -> "NeurIPTConfig":
        """The paper's model for ablations (hidden 256); keyword arguments override fields."""
        sizes = {"hidden_size": 256, "moe_intermediate_size": 128, "shared_expert_intermediate_size": 256}
        return cls(**(sizes | kwargs))

    @classmethod
    def base(cls, **kwargs) -> "NeurIPTConfig":
        """The paper's model (hidden 768), the same as no arguments; keyword arguments override fields."""
        return cls(**kwargs)

    @property
    def num_scales(self) -> int:
        """Scales that the encoder gives: the tokens and the output of each layer."""
        return self.num_hidden_layers + 1

    @property
    def head_scales(self) -> list[int]:
        """The scales that the head reads, in the order of its features."""
        return list(range(self.num_scales)) if self.pooled_scales is None else list(self.pooled_scales)

    @property
    def num_pooling_groups(self) -> int:
        """Groups of channels that the head averages at each scale."""
        if self.channel_groups is not None:
            return len(self.channel_groups)
        return {"mean": 1, "hemispheres": 2, "coronal": 5, "sagittal": 5}.get(self.pooling, self.num_lobes)

    @property
    def num_pooled_features(self) -> int:
        """Size of `pooler_output`."""
        return len(self.head_scales) * self.num_pooling_groups * self.hidden_size

    @property
    def num_connectivity_numbers(self) -> int:
        """Size of `connectivity`."""
        if self.connectivity_bands is None:
            return 0
        bands = self.connectivity_bands
        return connectivity_size(self.num_pooling_groups, len(self.power_bands or bands), len(bands))

    @property
    def embedding_size(self) -> int:
        """Size of the compact `embedding`: connectivity, and two courses of each group."""
        return self.num_connectivity_numbers + 2 * self.num_pooling_groups * (self.time_course_bins or 0)

    @property
    def num_observed_numbers(self) -> int:
        """How many of its numbers, from the first, are computed from the signal."""
        sizes = {"none": 0, "connectivity": self.num_connectivity_numbers, "all": self.embedding_size}
        return sizes[self.embedding_observed]

    @property
    def num_head_features(self) -> int:
        """What a classifier reads."""
        return self.embedding_size if self.compact_embedding else self.num_pooled_features

    @property
    def decoder_head_size(self) -> int:
        """Width of a head of the light decoder: 16, below which attention on a CPU costs more than it computes."""
        return min(16, self.decoder_size)

    def validate_sizes(self):
        """Positive sizes, an even `hidden_size` of at least 6 that the heads divide."""
        for name in (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "max_channels",
            "max_samples",
            "num_lobes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        if self.hidden_size % 2 or self.hidden_size < 6:
            raise ValueError(
                f"hidden_size must be even and at least 6 (sine and cosine of three coordinates), "
                f"but is {self.hidden_size}."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of "
                f"num_attention_heads ({self.num_attention_heads})."
            )

    def validate_layers(self):
        """One entry for each layer or scale, none below its least value."""
        for name, length, least, unit in (
            ("merge_sizes", self.num_hidden_layers, 1, "encoder layers"),
            ("num_experts", self.num_hidden_layers, 0, "encoder layers"),
            ("decoder_num_experts", self.num_scales, 0, "scales"),
            ("cross_num_experts", self.num_scales, 0, "scales"),
        ):
            entries = list(getattr(self, name))
            if len(entries) != length:
                raise ValueError(f"{name} has {len(entries)} entries for {length} {unit}: {entries}.")
            if min(entries) < least:
                raise ValueError(f"{name} must not fall below {least}: {entries}.")

    def validate_decoder(self):
        """A light decoder that its heads divide, and no settings that a light or linear one does not read."""
        by_attention = (
            any(self.decoder_num_experts) or any(self.cross_num_experts) or self.decoder_input != "positions"
        )
        if self.decoder_type == "linear" and (by_attention or self.decoder_size is not None):
            raise ValueError(
                "A linear decoder has no experts, no positions and no width of its own: leave decoder_num_experts, "
                "cross_num_experts, decoder_input and decoder_size at their defaults, or decoder_type at 'attention'."
            )
        if self.decoder_size is None:
            return
        if self.decoder_size < 1 or self.decoder_size % self.decoder_head_size:
            raise ValueError(
                f"decoder_size must be None, a number up to 16 or a multiple of 16, but is {self.decoder_size}."
            )
        if by_attention:
            raise ValueError(
                "A light decoder (decoder_size) has no experts and starts from positions: leave decoder_num_experts, "
                "cross_num_experts and decoder_input at their defaults, or decoder_size at None."
            )

    def validate_spectral_target(self):
        """Mean and standard deviation go together, one number for each target."""
        if (self.spectral_mean is None) != (self.spectral_scale is None):
            raise ValueError("spectral_mean and spectral_scale go together: give both or neither.")
        if self.spectral_mean is not None:
            if len(self.spectral_mean) != len(self.spectral_scale):
                raise ValueError(
                    f"spectral_mean has {len(self.spectral_mean)} numbers, spectral_scale {len(self.spectral_scale)}; "
                    "there must be one of each for every target."
                )
            if not all(scale > 0 for scale in self.spectral_scale):
                raise ValueError(f"spectral_scale must be positive, but is {list(self.spectral_scale)}.")

    def validate_targets(self):
        """A standardisation of each number of a regression, and no loss of classes for it."""
        regression = self.problem_type == "regression" or (self.problem_type is None and self.num_labels == 1)
        if regression and self.loss_type == "balanced_bce":
            raise ValueError("loss_type='balanced_bce' is for classes; for regression leave it at 'cross_entropy'.")
        if (self.target_mean is None) != (self.target_scale is None):
            raise ValueError("target_mean and target_scale go together: give both or neither.")
        if self.target_mean is None:
            return
        if not regression:
            raise ValueError(
                "target_mean and target_scale are for regression: set problem_type='regression', or both to None."
            )
        if not len(self.target_mean) == len(self.target_scale) == self.num_labels:
            raise ValueError(
                f"target_mean and target_scale need a number for each of the {self.num_labels} labels, but have "
                f"{len(self.target_mean)} and {len(self.target_scale)}."
            )
        if not all(map(math.isfinite, self.target_mean)) or not all(
            0 < scale < math.inf for scale in self.target_scale
        ):
            raise ValueError(
                f"target_mean must be finite and target_scale positive, but they are {list(self.target_mean)} and "
                f"{list(self.target_scale)}."
            )

    def validate_hidden_samples(self):
        """Nothing that is read at hidden places may hold the hidden values."""
        if not self.strict_masking and (self.hidden_fill != "zero" or self.decoder_type != "attention"):
            raise ValueError(
                "hidden_fill and decoder_type other than the paper's need strict_masking: without it the decoder "
                "would read the answer."
            )

    def validate_time_course(self):
        """A time course has at least two bins."""
        if self.time_course_bins is not None and self.time_course_bins < 2:
            raise ValueError(f"time_course_bins must be None or at least 2, but is {self.time_course_bins}.")

    def validate_compact_embedding(self):
        """Bands that the signal has, a companding that can be inverted, and numbers for a compact embedding."""
        highest = SAMPLING_RATE // 2 - 1
        for name in ("connectivity_bands", "power_bands"):
            if (bands := getattr(self, name)) is None:
                continue
            if not bands or any(len(band) != 2 or not 1 <= band[0] < band[1] <= highest for band in bands):
                raise ValueError(
                    f"{name} must be None or pairs [low, high] in whole hertz with 1 <= low < high <= {highest}, but "
                    f"is {[list(band) for band in bands]}."
                )
        if self.power_bands is not None and self.connectivity_bands is None:
            raise ValueError("power_bands go with connectivity_bands: give both, or leave power_bands at None.")
        if self.companding_a is not None and math.e + math.log(max(self.companding_a, 1e-9)) <= 0:
            raise ValueError(f"companding_a must be None or above exp(-e) = 0.066, but is {self.companding_a}.")
        if self.compact_embedding and self.connectivity_bands is None and self.time_course_bins is None:
            raise ValueError(
                "compact_embedding needs numbers to hold: set connectivity_bands, time_course_bins or both."
            )

    def validate_channel_groups(self):
        """Groups of channel numbers, none of them empty."""
        groups = self.channel_groups
        if groups is not None and (not groups or any(not group or min(group) < 0 for group in groups)):
            raise ValueError(
                f"channel_groups must be lists of channel numbers from 0, none of them empty, but is {groups}."
            )

    def validate_rates(self):
        """Probabilities and coefficients in their ranges."""
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), but is {getattr(self, name)}.")
        for name in (
            "router_noise",
            "router_importance_coef",
            "router_aux_loss_coef",
            "prior_weight",
            "spectral_loss_weight",
            "time_course_loss_weight",
            "embedding_loss_weight",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}.")
        if not 0 < self.expert_top_k_ratio <= 1:
            raise ValueError(f"expert_top_k_ratio must lie in (0, 1], but is {self.expert_top_k_ratio}.")
        if self.expert_capacity_factor is not None and self.expert_capacity_factor <= 0:
            raise ValueError(f"expert_capacity_factor must be positive or None, but is {self.expert_capacity_factor}.")
        if self.reconstruction_exponent <= 0:
            raise ValueError(f"reconstruction_exponent must be positive, but is {self.reconstruction_exponent}.")

    def validate_head(self):
        """Scales that exist, and a class prior where the loss needs one."""
        if self.pooled_scales is not None:
            scales = list(self.pooled_scales)
            if not scales or len(set(scales)) != len(scales) or not set(scales) <= set(range(self.num_scales)):
                raise ValueError(
                    f"pooled_scales must be different numbers from 0 to {self.num_scales - 1}, but is {scales}."
                )
        if self.class_prior is not None and not all(0 < share < 1 for share in self.class_prior):
            raise ValueError(f"class_prior must hold shares between 0 and 1, but is {list(self.class_prior)}.")
        if self.loss_type == "balanced_bce" and self.prior_weight > 0:
            if self.class_prior is None or len(self.class_prior) != self.num_labels:
                raise ValueError(
                    f"loss_type='balanced_bce' with prior_weight={self.prior_weight} needs class_prior with one share "
                    f"for each of the {self.num_labels} labels, but class_prior is {self.class_prior}."
                )


__all__ = ["NeurIPTConfig", "warn_of_unknown"]
