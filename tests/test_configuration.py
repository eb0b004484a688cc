"""Configuration: sizes by name, what is refused, what travels, and that no field is idle."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

import neuript_hf
from neuript_hf import NeurIPTConfig


OWN_FIELDS = {field.name for field in dataclasses.fields(NeurIPTConfig)} - {
    field.name for field in dataclasses.fields(PreTrainedConfig)
}


def test_every_field_is_read():
    """An option that nothing reads is a promise that nobody keeps."""
    package = Path(neuript_hf.__file__).parent
    files = "modeling_neuript configuration_neuript embeddings pooling losses auxiliary_targets history"
    files = [*files.split(), "compact_embedding"]
    readers = "".join((package / f"{name}.py").read_text() for name in files)
    # the configuration's own properties turn one into the other
    by_property = {"pooled_scales": "head_scales", "embedding_observed": "num_observed_numbers"}
    idle = {name for name in OWN_FIELDS if not re.search(rf"config\.{by_property.get(name, name)}\b", readers)}
    assert not idle


def test_every_field_is_documented():
    missing = {name for name in OWN_FIELDS if f"        {name} (`" not in NeurIPTConfig.__doc__}
    assert not missing


def test_sizes_by_name():
    tiny, small, base = NeurIPTConfig.tiny(), NeurIPTConfig.small(), NeurIPTConfig.base()
    assert (tiny.hidden_size, tiny.intermediate_size, tiny.num_attention_heads) == (96, 192, 4)
    assert (tiny.moe_intermediate_size, tiny.shared_expert_intermediate_size) == (48, 96)
    assert (small.hidden_size, small.intermediate_size, small.moe_intermediate_size) == (256, 768, 128)
    assert base.to_dict() == NeurIPTConfig().to_dict() and base.hidden_size == 768
    assert NeurIPTConfig.tiny(hidden_dropout=0.3, hidden_size=48).hidden_size == 48


def test_defaults_are_the_contracts():
    config = NeurIPTConfig()
    assert list(config.merge_sizes) == [1, 4, 1, 2, 1, 2] and list(config.num_experts) == [0, 0, 2, 4, 4, 6]
    assert list(config.decoder_num_experts) == list(config.cross_num_experts) == [0] * 7
    assert config.normalize_router_probs and config.strict_masking and config.expert_capacity_factor is None
    assert config.balance_loss == "fraction" and config.head_scales == list(range(7))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_size": "96"}, "hidden_size"),
        ({"hidden_size": 96.0}, "hidden_size"),
        ({"channel_groups": [[0, 1], []]}, "channel_groups must be lists of channel numbers"),
        ({"hidden_size": 97, "num_attention_heads": 1}, "hidden_size must be even"),
        ({"hidden_size": 96, "num_attention_heads": 5}, r"hidden_size \(96\) must be a multiple of"),
        ({"hidden_act": "tanh"}, "hidden_act"),
        ({"merge_sizes": [1, 4]}, "merge_sizes has 2 entries for 6 encoder layers"),
        ({"merge_sizes": [1, 4, 0, 2, 1, 2]}, "merge_sizes must not fall below 1"),
        ({"num_experts": [0] * 5}, "num_experts has 5 entries for 6 encoder layers"),
        ({"decoder_num_experts": [0] * 6}, "decoder_num_experts has 6 entries for 7 scales"),
        ({"expert_top_k_ratio": 0.0}, r"expert_top_k_ratio must lie in \(0, 1\]"),
        ({"hidden_dropout": 1.0}, r"hidden_dropout must lie in \[0, 1\)"),
        ({"router_noise": -0.1}, "router_noise must not be negative"),
        ({"pooled_scales": [0, 7]}, "pooled_scales must be different numbers from 0 to 6"),
        ({"pooled_scales": []}, "pooled_scales must be different numbers"),
        ({"loss_type": "balanced_bce", "prior_weight": 0.3}, "needs class_prior with one share for each of the 2"),
        ({"problem_type": "multilabel"}, "problem_type' expected one of"),
        ({"problem_type": "regression", "loss_type": "balanced_bce"}, "for regression leave it at 'cross_entropy'"),
        ({"num_labels": 1, "loss_type": "balanced_bce"}, "for regression leave it at 'cross_entropy'"),
        ({"num_labels": 1, "target_mean": [40.0]}, "target_mean and target_scale go together"),
        ({"target_mean": [40.0], "target_scale": [9.0]}, "are for regression"),
        ({"num_labels": 1, "target_mean": [40.0, 1.0], "target_scale": [9.0, 1.0]}, "for each of the 1 labels"),
        ({"num_labels": 1, "target_mean": [40.0], "target_scale": [0.0]}, "target_scale positive"),
        ({"class_prior": [0.0, 1.0]}, "class_prior must hold shares between 0 and 1"),
        ({"expert_capacity_factor": 0}, "expert_capacity_factor must be positive or None"),
        ({"reconstruction_exponent": 0}, "reconstruction_exponent must be positive"),
        ({"num_lobes": 0}, "num_lobes must be at least 1"),
        ({"decoder_size": 24}, "up to 16 or a multiple of 16"),
        ({"decoder_size": 4, "cross_num_experts": [0, 0, 0, 0, 0, 0, 2]}, "no experts"),
        ({"decoder_size": 4, "decoder_input": "visible"}, "starts from positions"),
        ({"decoder_type": "linear", "decoder_size": 8}, "A linear decoder has no experts"),
        ({"decoder_type": "linear", "decoder_input": "visible"}, "A linear decoder has no experts"),
        ({"decoder_type": "linear", "cross_num_experts": [2] * 7}, "A linear decoder has no experts"),
        ({"decoder_type": "linear", "strict_masking": False}, "need strict_masking"),
        ({"hidden_fill": "line", "strict_masking": False}, "need strict_masking"),
        ({"hidden_fill": "ridge"}, "hidden_fill"),
        ({"time_course_bins": 1}, "time_course_bins must be None or at least 2, but is 1"),
        ({"time_course_loss_weight": -1.0}, "time_course_loss_weight must not be negative"),
        ({"connectivity_bands": [[8, 32]]}, "1 <= low < high <= 31, but is"),
        ({"connectivity_bands": [[8, 8]]}, "1 <= low < high <= 31"),
        ({"connectivity_bands": []}, "must be None or pairs"),
        ({"power_bands": [[8, 10]]}, "go with connectivity_bands"),
        ({"companding_a": 0.05}, "companding_a must be None or above"),
        ({"compact_embedding": True}, "needs numbers to hold"),
        ({"embedding_loss_weight": -1.0}, "embedding_loss_weight must not be negative"),
        ({"spectral_mean": [0.0]}, "go together"),
        ({"spectral_mean": [0.0], "spectral_scale": [1.0, 1.0]}, "one of each"),
        ({"spectral_mean": [0.0], "spectral_scale": [0.0]}, "must be positive"),
    ],
)
def test_what_cannot_be_is_refused(fields, words):
    with pytest.raises(StrictDataclassError) as refusal:
        NeurIPTConfig(**fields)
    assert re.search(words, str(refusal.value) + str(refusal.value.__cause__))


def test_wrong_types_are_refused_later_too():
    config = NeurIPTConfig.tiny()
    with pytest.raises(StrictDataclassError):
        config.hidden_size = "wide"


def test_saved_and_loaded(tmp_path):
    config = NeurIPTConfig.tiny(pooled_scales=[0, 6], id2label={0: "rest", 1: "task"}, num_lobes=4)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is NeurIPTConfig
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert set(json.loads((tmp_path / "config.json").read_text())["auto_map"]) == {
        "AutoConfig",
        "AutoModel",
        "AutoModelForPreTraining",
        "AutoModelForSequenceClassification",
    }


def test_names_of_the_first_edition():
    """Its checkpoints have `course_parts`; the field is `time_course_bins` now, and saved under that name."""
    config = NeurIPTConfig.from_dict({"course_parts": 8, "course_loss_weight": 20})
    assert config.time_course_bins == config.course_parts == 8 and config.time_course_loss_weight == 20
    assert "course_parts" not in config.to_dict() and config.to_dict()["time_course_bins"] == 8


def test_a_misspelt_field_is_named(tmp_path, recwarn):
    """It is kept, as transformers does it, but not without a word; what transformers itself adds is no such field."""
    with pytest.warns(UserWarning, match=r"no 'poolling'.*'pooling'"):
        config = NeurIPTConfig.tiny(poolling="mean")
    assert config.pooling == "lobes"
    with pytest.warns(UserWarning, match="no 'zebra'"):
        NeurIPTConfig(zebra=1)
    recwarn.clear()
    config = NeurIPTConfig.tiny(num_labels=3, dtype="float32", output_attentions=True, attn_implementation="eager")
    config.save_pretrained(tmp_path)
    AutoConfig.from_pretrained(tmp_path, num_labels=4, torch_dtype="bfloat16")
    NeurIPTConfig.from_dict(config.to_dict())
    for folder in sorted(Path(neuript_hf.__file__).parents[1].glob("hub/*")):
        NeurIPTConfig.from_pretrained(folder)
    assert not [str(warning.message) for warning in recwarn if "nothing reads it" in str(warning.message)]
