"""The laws of the model (docs/model.md section 17, tests 4 to 9, 11, 12) and of its variants."""

import pytest
import torch
from conftest import exact, in_double, make_batch, pad, small_config
from torch import nn
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from neuript_hf import (
    NeurIPTConfig,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
)
from neuript_hf.embeddings import sinusoid
from neuript_hf.losses import balanced_bce_loss, classification_loss, expert_balance_loss
from neuript_hf.modeling_neuript import NeurIPTRouter, NeurIPTSparseMoE
from neuript_hf.pooling import AUTHORS_GROUPS, channel_groups


def classifier(config: NeurIPTConfig) -> NeurIPTForSequenceClassification:
    return NeurIPTForSequenceClassification(config).eval()


@pytest.mark.parametrize(
    ("model_class", "config", "expected"),
    [
        (NeurIPTForSequenceClassification, NeurIPTConfig.base(num_labels=6), 92_373_286),
        (NeurIPTForPreTraining, NeurIPTConfig.base(), 179_110_439),
        (NeurIPTForPreTraining, NeurIPTConfig.small(), 28_793_383),
        (NeurIPTForSequenceClassification, NeurIPTConfig.small(num_labels=6), 10_869_542),
        (NeurIPTForPreTraining, NeurIPTConfig.small(intermediate_size=256), 18_937_383),
        (NeurIPTForSequenceClassification, NeurIPTConfig.small(intermediate_size=256, num_labels=6), 9_292_582),
    ],
)
def test_parameter_counts(model_class, config, expected):
    """Spec section 11, to the last digit."""
    with torch.device("meta"):
        assert model_class(config).num_parameters() == expected


def test_sinusoid_of_real_positions():
    """Even entries sine, odd cosine, frequencies 10000^(-2j/m), for positions that are no whole numbers too."""
    code = sinusoid(torch.tensor([0.0, 2.5]), 8)
    frequencies = torch.tensor([10000.0 ** (-2 * j / 8) for j in range(4)])
    torch.testing.assert_close(code[0], torch.tensor([0.0, 1.0] * 4))
    torch.testing.assert_close(code[1, 0::2], torch.sin(2.5 * frequencies))
    torch.testing.assert_close(code[1, 1::2], torch.cos(2.5 * frequencies))


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 40, 58])
@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels_and_samples(channels, samples):
    batch = make_batch(channels=channels, samples=samples)
    outputs = classifier(small_config())(**batch, output_hidden_states=True)
    assert outputs.logits.shape == (3, 3) and outputs.logits.isfinite().all()
    lengths = [samples, samples]
    for size in (4, 1, 2, 1, 2):
        lengths.append(-(-lengths[-1] // size))
    assert [states.shape for states in outputs.hidden_states] == [(3, channels, length, 16) for length in lengths]


def gradient_of_predictions(model, batch, hidden):
    """Of all predictions' squares, so that effects of different ones can't cancel, with respect to every sample."""
    batch["input_values"].requires_grad_(True)
    reconstruction = model(**batch, hidden_positions=hidden).logits
    (gradient,) = torch.autograd.grad((reconstruction**2).sum(), batch["input_values"])
    return gradient


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"decoder_size": 4},
        {"decoder_size": 8},
        {"decoder_input": "visible"},
        {"hidden_fill": "line"},
        {"hidden_fill": "line", "decoder_type": "linear"},
    ],
)
def test_hidden_samples_reach_no_prediction(fields):
    """Spec section 17 (6): the gradient of every prediction with respect to every hidden sample is exactly 0."""
    model, batch = NeurIPTForPreTraining(small_config(**fields)).eval(), make_batch()
    hidden = torch.rand(batch["input_values"].shape) < 0.4
    hidden[0, 0] = True  # a whole channel
    hidden[1, :, 8:16] = True  # whole segments of every channel
    gradient = gradient_of_predictions(model, batch, hidden)
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).float().mean() > 0.99


def test_authors_masking_lets_hidden_samples_through():
    """The switch of docs/model.md section 16 has an effect: the authors' code keeps the true values in the tokens."""
    hidden = torch.rand(3, 5, 40) < 0.4
    model = NeurIPTForPreTraining(small_config(strict_masking=False)).eval()
    assert (gradient_of_predictions(model, make_batch(), hidden)[hidden] != 0).any()


# The laws are checked in float64 and, on the logits, once more in float32, as docs/model.md states them.


@pytest.mark.parametrize(
    ("model_class", "tolerance"),
    [
        (NeurIPTForSequenceClassification, 1e-5),
        (NeurIPTForSequenceClassification, 1e-10),
        (NeurIPTForPreTraining, 1e-10),
    ],
)
def test_window_alone_and_in_a_batch(model_class, tolerance):
    """Spec section 17 (7)."""
    model = model_class(small_config(decoder_num_experts=[2] * 7, cross_num_experts=[2] * 7)).eval()
    batch = make_batch(windows=6)
    if tolerance == 1e-10:
        model, batch = exact(model), in_double(batch)
    together = model(**batch).logits
    for index in range(6):
        alone = model(**{name: tensor[index : index + 1] for name, tensor in batch.items()}).logits
        torch.testing.assert_close(alone[0], together[index], atol=tolerance, rtol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("samples", [1, 2, 3, 6, 17, 58, 64])
def test_padding_changes_nothing(samples, attention):
    """Spec section 17 (8), for lengths that merging divides and for those where it has to repeat segments."""
    model = classifier(small_config())
    model.set_attn_implementation(attention)
    batch = make_batch(samples=samples)
    paddings = ((0, 13), (3, 0), (2, 7))
    single = model(**batch).logits
    for channels, extra in paddings:
        padded = model(**pad(batch, channels, extra, garbage=50.0)).logits
        torch.testing.assert_close(padded, single, atol=1e-5, rtol=0)
    model = exact(model)
    plain = model(**in_double(batch), output_hidden_states=True)
    for channels, extra in paddings:
        padded = model(**in_double(pad(batch, channels, extra, garbage=50.0)), output_hidden_states=True)
        for states, expected in zip(padded.hidden_states, plain.hidden_states, strict=True):
            found = states[:, : expected.shape[1], : expected.shape[2]]
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_padding_changes_nothing_in_pre_training():
    """Reconstruction, loss and auxiliary loss, with hidden samples, in training mode (router statistics)."""
    model = exact(NeurIPTForPreTraining(small_config(decoder_num_experts=[2] * 7, cross_num_experts=[3] * 7)))
    batch = in_double(make_batch(samples=22))
    masked = torch.rand(batch["input_values"].shape) < 0.5
    hidden = masked & (torch.rand(masked.shape) < 0.8)
    labels = batch["input_values"].clone()
    plain = model(**batch, masked_positions=masked, hidden_positions=hidden, labels=labels)
    padded = in_double(pad(batch, 2, 9, garbage=50.0))

    def grow(tensor, value):
        return torch.nn.functional.pad(tensor, (0, 9, 0, 2), value=value)

    # selected samples in the padding must not count either
    outputs = model(
        **padded, masked_positions=grow(masked, True), hidden_positions=grow(hidden, False), labels=grow(labels, 50.0)
    )
    torch.testing.assert_close(outputs.logits[:, :5, :22], plain.logits, atol=1e-10, rtol=0)
    torch.testing.assert_close(outputs.loss, plain.loss, atol=1e-10, rtol=0)
    torch.testing.assert_close(outputs.aux_loss, plain.aux_loss, atol=1e-10, rtol=0)


def test_rows_without_any_key_stay_finite():
    """A window whose samples are all hidden."""
    model = NeurIPTForPreTraining(small_config()).eval()
    batch = make_batch()
    hidden = torch.zeros_like(batch["input_values"], dtype=torch.bool)
    hidden[0] = True
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        outputs = model(**batch, hidden_positions=hidden)
        assert outputs.logits.isfinite().all()


def test_permuting_channels_permutes():
    """Spec section 17 (9)."""
    model = exact(classifier(small_config()))
    batch = in_double(make_batch())
    order = torch.tensor([3, 0, 4, 1, 2])
    plain = model(**batch, output_hidden_states=True)
    permuted = model(**{name: tensor[:, order] for name, tensor in batch.items()}, output_hidden_states=True)
    torch.testing.assert_close(permuted.logits, plain.logits, atol=1e-10, rtol=0)
    expected = tuple(states[:, order] for states in plain.hidden_states)
    torch.testing.assert_close(permuted.hidden_states, expected, atol=1e-10, rtol=0)


def test_moving_an_electrode_moves_only_the_spatial_code():
    """Spec section 17 (12): scale 0 stays, the code changes in that axis and channel alone."""
    model = NeurIPTModel(small_config()).eval()
    batch = make_batch()
    plain = model(**batch, output_hidden_states=True)
    code = model.embeddings.spatial_code(5, batch["electrode_positions"])
    batch["electrode_positions"][:, 2, 1] += 0.5
    moved = model(**batch, output_hidden_states=True)
    change = (model.embeddings.spatial_code(5, batch["electrode_positions"]) - code).abs()
    assert torch.equal(plain.hidden_states[0], moved.hidden_states[0])
    assert not torch.allclose(plain.hidden_states[1], moved.hidden_states[1])
    assert change[:, 2, 4:8].max() > 0  # hidden 16: x and y have 4 entries, z has 8
    change[:, 2, 4:8] = 0
    assert change.max() == 0


def test_one_expert_is_a_dense_block():
    """Spec section 17 (11): with E = 1, PMoE is the shared expert plus one expert that everybody uses."""
    mixture = NeurIPTSparseMoE(small_config(), num_experts=1).eval()
    mixture.config = mixture.experts.config
    mixture.config._experts_implementation = "eager"
    for parameter in mixture.parameters():
        nn.init.normal_(parameter, std=0.3)
    tokens = torch.randn(2, 7, 16)
    output, aux_loss = mixture(tokens)
    experts = mixture.experts
    states = nn.functional.linear(tokens, experts.gate_up_proj[0], experts.gate_up_proj_bias[0])
    gate, values = states.chunk(2, dim=-1)
    states = nn.functional.silu(gate) * values
    dense = nn.functional.linear(states, experts.down_proj[0], experts.down_proj_bias[0])
    torch.testing.assert_close(output, mixture.shared_expert(tokens)[0] + dense, atol=1e-6, rtol=1e-6)
    assert aux_loss == 0.0
    _, aux_loss = mixture.train()(tokens)
    torch.testing.assert_close(aux_loss, torch.tensor(1.0))  # balance E f P = 1, importance 0


def test_every_expert_learns():
    """Spec section 17 (11): over a batch every expert, and every other parameter of the classifier, gets gradient."""
    model = NeurIPTForSequenceClassification(small_config())
    batch = make_batch(windows=8)
    model(**batch, labels=torch.arange(8) % 3).loss.backward()
    for name, parameter in model.named_parameters():
        if ".experts." in name:
            assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), name
        elif not name.endswith("k_proj.bias"):  # softmax does not feel what is added to all keys
            assert parameter.grad.abs().max() > 0, name


def test_kept_probabilities():
    """Half of the experts, rounded up; divided by their sum, or left as they are."""
    for experts, kept in ((1, 1), (2, 1), (3, 2), (5, 3), (6, 3)):
        router = NeurIPTRouter(small_config(), experts).eval()
        nn.init.normal_(router.weight)
        nn.init.zeros_(router.bias)
        logits, weights, indices = router(torch.randn(10, 16), None)
        assert weights.shape == indices.shape == (10, kept)
        torch.testing.assert_close(weights.sum(-1), torch.ones(10))
        router.normalize = False
        _, weights, _ = router(torch.randn(10, 16), None)
        assert experts == kept or (weights.sum(-1) < 0.999).any()


def test_expert_capacity_drops_what_comes_late():
    """The authors' switch: an expert takes floor(n / E) tokens in order; padded tokens take no place."""
    router = NeurIPTRouter(small_config(expert_capacity_factor=1.0, normalize_router_probs=False), 2).eval()
    nn.init.zeros_(router.weight)
    router.bias.data = torch.tensor([1.0, 0.0])  # everybody wants expert 0
    _, weights, _ = router(torch.randn(6, 16), None)
    assert (weights[:3] > 0).all() and (weights[3:] == 0).all()
    valid = torch.tensor([False, False, True, True, True, True])
    _, weights, _ = router(torch.randn(6, 16), valid)
    assert (weights[2:4] > 0).all() and (weights[4:] == 0).all()


def test_balance_loss_by_hand():
    """Spec section 6: both forms on two tokens and two experts."""
    probabilities = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
    kept = torch.tensor([[0], [0]])
    total = torch.tensor([1.4, 0.6])
    importance = 0.008 * total.var() / (1.0 + 1e-8)
    fraction = expert_balance_loss(probabilities.log(), kept, None, 0.008, "fraction")
    torch.testing.assert_close(fraction, importance + 2 * (1.0 * 0.7 + 0.0 * 0.3))
    squared = expert_balance_loss(probabilities.log(), kept, None, 0.008, "squared_mass")
    torch.testing.assert_close(squared, importance + 2 * (0.7 * 1.4) / 4)
    extra = torch.cat([probabilities, torch.tensor([[0.01, 0.99]])]).log()
    valid = torch.tensor([True, True, False])
    masked = expert_balance_loss(extra, torch.tensor([[0], [0], [1]]), valid, 0.008, "fraction")
    torch.testing.assert_close(masked, fraction)


def test_auxiliary_loss_enters_the_loss_in_training_only():
    model = NeurIPTForSequenceClassification(small_config(router_aux_loss_coef=0.5))
    batch, labels = make_batch(), torch.tensor([0, 1, 2])
    outputs = model.train()(**batch, labels=labels)
    expected = nn.functional.cross_entropy(outputs.logits, labels) + 0.5 * outputs.aux_loss
    torch.testing.assert_close(outputs.loss, expected)
    outputs = model.eval()(**batch, labels=labels)
    assert outputs.aux_loss is None
    torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(outputs.logits, labels))


def test_balanced_bce_by_hand():
    """Paper C.4, for two windows and two classes."""
    logits, labels = torch.tensor([[1.0, -0.5], [0.2, 0.3]]), torch.tensor([0, 1])
    prior = torch.tensor([0.9, 0.1])
    shifted = logits + 0.3 * (prior.log() - (1 - prior).log())
    sigmoid = shifted.sigmoid()
    by_hand = -(sigmoid[0, 0].log() + (1 - sigmoid[0, 1]).log() + (1 - sigmoid[1, 0]).log() + sigmoid[1, 1].log()) / 2
    torch.testing.assert_close(balanced_bce_loss(logits, labels, prior, 0.3), by_hand)
    without = balanced_bce_loss(logits, labels, None, 0.0)
    assert without != by_hand
    model = NeurIPTForSequenceClassification(
        small_config(loss_type="balanced_bce", class_prior=[0.5, 0.3, 0.2], prior_weight=0.2)
    ).eval()
    outputs = model(**make_batch(), labels=torch.tensor([0, 1, 2]))
    expected = balanced_bce_loss(outputs.logits, torch.tensor([0, 1, 2]), torch.tensor([0.5, 0.3, 0.2]), 0.2)
    torch.testing.assert_close(outputs.loss, expected)


def test_reconstruction_loss_looks_at_selected_samples():
    batch, selected = make_batch(), torch.rand(3, 5, 40) < 0.3
    labels = torch.randn(3, 5, 40)
    for exponent, root in ((2.0, False), (1.0, False), (2.0, True)):
        config = small_config(reconstruction_exponent=exponent, reconstruction_root=root)
        outputs = NeurIPTForPreTraining(config).eval()(**batch, masked_positions=selected, labels=labels)
        expected = ((outputs.reconstruction - labels)[selected].abs() ** exponent).mean()
        torch.testing.assert_close(outputs.loss, expected ** (1 / exponent) if root else expected)


def test_lobe_pooling_is_the_mean_of_lobes():
    """Spec section 8: mean over time and over the channels of a lobe, lobes side by side, scales side by side."""
    model = NeurIPTModel(small_config()).eval()
    batch = make_batch()
    batch["lobe_mask"][:, :, 3] = False  # a lobe without channels
    outputs = model(**batch, output_hidden_states=True)
    pooled = outputs.pooler_output.view(3, 7, 5, 16)
    for scale, states in enumerate(outputs.hidden_states):
        for lobe in (0, 3):
            for window in range(3):
                members = states[window][batch["lobe_mask"][window, :, lobe]]
                expected = members.mean(dim=(0, 1)) if len(members) else torch.zeros(16)
                torch.testing.assert_close(pooled[window, scale, lobe], expected, atol=1e-6, rtol=1e-5)
    kept = NeurIPTModel(small_config(pooled_scales=[0, 5, 6])).eval()
    kept.load_state_dict(model.state_dict())
    torch.testing.assert_close(kept(**batch).pooler_output.view(3, 3, 5, 16), pooled[:, [0, 5, 6]])


@pytest.mark.parametrize(
    ("pooling", "groups"), [("mean", 1), ("none", 5), ("hemispheres", 2), ("coronal", 5), ("sagittal", 5)]
)
def test_other_groupings(pooling, groups):
    """Paper table 5; a grouping by coordinates does not need lobes, and "mean" is the mean over channels."""
    batch = make_batch()
    batch["lobe_mask"] = batch["lobe_mask"][..., :4]  # of another number: not looked at
    config = small_config(pooling=pooling)
    if pooling in ("mean", "none"):  # these need no positions either
        config.position_encoding, batch = "channel_index", {"input_values": batch["input_values"]}
    model = NeurIPTModel(config).eval()
    outputs = model(**batch, output_hidden_states=True)
    assert outputs.pooler_output.shape == (3, 7 * groups * 16)
    if pooling in ("mean", "none"):
        states = outputs.hidden_states[-1].mean(dim=2)
        expected = states.mean(dim=1) if pooling == "mean" else states.flatten(1)
        torch.testing.assert_close(outputs.pooler_output[:, -groups * 16 :], expected)
    assert NeurIPTForSequenceClassification(config)(**batch).logits.shape == (3, 3)


def montage_positions(montage):
    return torch.as_tensor(NeurIPTFeatureExtractor(montage=montage).channel_features()["electrode_positions"])[None]


def groups_of(pooling, positions, channels=None):
    return channel_groups(small_config(pooling=pooling), None, positions, positions.shape[1], channels)


def test_groupings_by_coordinates_know_the_electrodes():
    positions = montage_positions(["C3", "Cz", "C4", "Fp1", "O2"])
    hemispheres = groups_of("hemispheres", positions)[0].tolist()
    assert hemispheres == [[True, False], [True, True], [False, True], [True, False], [False, True]]
    for pooling, front_or_left, back_or_right in (("coronal", 3, 4), ("sagittal", 0, 2)):
        strips = groups_of(pooling, positions)[0].int().argmax(-1)
        assert strips[front_or_left] < strips[1] < strips[back_or_right]


@pytest.mark.parametrize(("montage", "channels"), [("double_banana", 20), ("seed_v", 17), ("bcic_iv_2a", 16)])
def test_hemispheres_by_coordinates_are_the_authors(montage, channels):
    groups = groups_of("hemispheres", montage_positions(montage))[0].T
    assert [torch.where(group)[0].tolist() for group in groups] == AUTHORS_GROUPS["Hemispheres"][channels]


def test_coronal_strips_of_the_double_banana_are_the_authors():
    """The same five groups in another order: theirs puts the central chain last."""
    groups = groups_of("coronal", montage_positions("double_banana"))[0].T
    assert sorted(torch.where(group)[0].tolist() for group in groups) == sorted(AUTHORS_GROUPS["Coronal"][20])


@pytest.mark.parametrize("pooling", ["coronal", "sagittal"])
def test_strips_are_of_equal_size_whatever_the_order_and_the_padding(pooling):
    positions = montage_positions("bcic_iv_2a_monopolar")
    groups = groups_of(pooling, positions)
    assert groups.sum(-1).eq(1).all() and set(groups.sum(1).flatten().tolist()) == {4, 5}
    order = torch.randperm(22)
    assert torch.equal(groups_of(pooling, positions[:, order]), groups[:, order])
    padded = torch.cat((positions, torch.zeros(1, 3, 3)), dim=1)
    real = torch.arange(25)[None] < 22
    assert torch.equal(groups_of(pooling, padded, real), torch.cat((groups, torch.zeros(1, 3, 5).bool()), dim=1))


def test_channel_groups_by_number():
    """The paper's table 5 as the authors have it: any montage's own lists, instead of lobes or coordinates."""
    model = NeurIPTModel(small_config(channel_groups=[[0, 1], [2, 3, 4]])).eval()
    batch = make_batch()
    outputs = model(batch["input_values"], batch["electrode_positions"], output_hidden_states=True)
    states = outputs.hidden_states[-1].mean(dim=2)
    expected = torch.cat((states[:, :2].mean(dim=1), states[:, 2:].mean(dim=1)), dim=1)
    torch.testing.assert_close(outputs.pooler_output[:, -2 * 16 :], expected)
    with pytest.raises(ValueError, match="channel_groups are for windows of 5 channels, but this one has 6"):
        model(**make_batch(channels=6))


@pytest.mark.parametrize("encoding", ["channel_index", "learned_1d", "learned_2d"])
def test_other_position_codes(encoding):
    """Paper table 11: they know channel numbers, not places."""
    batch = make_batch()
    model = NeurIPTForPreTraining(small_config(position_encoding=encoding, max_channels=6, max_samples=50)).eval()
    plain = model(**batch).logits
    batch["electrode_positions"] += 3
    assert torch.equal(model(**batch).logits, plain)
    with_learned_channels = encoding.startswith("learned")
    if with_learned_channels:
        with pytest.raises(ValueError, match="max_channels is 6"):
            model(**make_batch(channels=7))
    if encoding == "learned_2d":
        with pytest.raises(ValueError, match="max_samples is 50"):
            model(**make_batch(samples=51))


@pytest.mark.parametrize("act", ["gelu", "relu"])
@pytest.mark.parametrize("experts", ["eager", "grouped_mm", "batched_mm"])
def test_other_activations(act, experts):
    """Paper table 7; dense blocks and experts without a gate, whichever experts implementation runs."""
    model = NeurIPTForSequenceClassification(small_config(hidden_act=act)).eval()
    batch = make_batch()
    reference = model(**batch).logits
    model.set_experts_implementation(experts)
    torch.testing.assert_close(model(**batch).logits, reference, atol=1e-5, rtol=0)
    up = model.neuript.layers[1].two_stage_attention.time_stage.feed_forward.experts.gate_up_proj
    assert up.shape == (2, 8, 16)


def test_a_light_decoder_as_wide_as_the_encoder_has_heads_of_its_own():
    model = NeurIPTForPreTraining(small_config(decoder_size=16))
    assert model.neuript.layers[0].two_stage_attention.time_stage.attention.head_dim == 16 // 2
    assert model.decoder[0].cross_attention.head_dim == 16


def test_the_light_decoder_is_small_and_reads_every_scale():
    light, whole = (NeurIPTForPreTraining(small_config(decoder_size=size)) for size in (4, None))
    sizes = [model.num_parameters() - model.neuript.num_parameters() for model in (light, whole)]
    assert sizes[0] < 0.2 * sizes[1]
    batch = make_batch()
    light(**batch, hidden_positions=torch.rand(3, 5, 40) < 0.3, labels=batch["input_values"]).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in light.decoder[0].parameters())
    assert all(layer.memory_norm.weight.grad.any() for layer in light.decoder)


def test_decoder_starts_from_visible_samples_where_asked():
    """`decoder_input="visible"` (paper eq. 6) adds visible tokens."""
    batch = make_batch() | {"hidden_positions": torch.rand(3, 5, 40) < 0.4}
    model = NeurIPTForPreTraining(small_config(decoder_input="visible")).eval()
    plain = NeurIPTForPreTraining(small_config()).eval()
    plain.load_state_dict(model.state_dict())
    assert not torch.allclose(model(**batch).logits, plain(**batch).logits)


def test_optional_outputs():
    model = classifier(small_config())
    model.set_attn_implementation("eager")
    batch = make_batch()
    outputs = model(**batch, output_attentions=True, output_router_logits=True, output_hidden_states=True)
    assert len(outputs.hidden_states) == 7 and len(outputs.attentions) == 12 and len(outputs.router_logits) == 6
    assert outputs.attentions[0].shape == (15, 2, 40, 40) and outputs.attentions[1].shape == (120, 2, 5, 5)
    assert [logits.shape[-1] for logits in outputs.router_logits] == [2, 2, 3, 3, 4, 4]
    assert model(**batch).hidden_states is None
    assert isinstance(model(**batch, return_dict=False), tuple)
    pretraining = NeurIPTForPreTraining(small_config(cross_num_experts=[2] * 7)).eval()
    pretraining.set_attn_implementation("eager")
    outputs = pretraining(**batch, output_attentions=True, output_router_logits=True, output_hidden_states=True)
    assert len(outputs.hidden_states) == 7 and len(outputs.attentions) == 12 and len(outputs.router_logits) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_values": torch.randn(5, 40)}, r"input_values must be \[B, C, T\]"),
        ({"input_values": torch.randn(3, 5, 0)}, "none of them 0"),
        ({"electrode_positions": torch.zeros(3, 4, 3)}, r"electrode_positions must have shape \[3, 5, 3\]"),
        ({"electrode_positions": None}, "electrode_positions .* are needed; take them from the feature extractor"),
        ({"lobe_mask": None}, "lobe_mask .* is needed; take it from the feature extractor"),
        ({"lobe_mask": torch.ones(3, 5, 4, dtype=torch.bool)}, "Set config.num_lobes to the extractor's num_lobes"),
        ({"channel_mask": torch.ones(3, 4)}, r"channel_mask must have shape \[3, 5\]"),
        ({"attention_mask": torch.ones(3, 39)}, r"attention_mask must have shape \[3, 40\]"),
        (
            {"channel_mask": torch.tensor([[1] * 5, [0] * 5, [1] * 5])},
            r"channel_mask is all false in the windows \[1\]",
        ),
        ({"attention_mask": torch.zeros(3, 40)}, r"attention_mask is all false in the windows \[0, 1, 2\]"),
    ],
)
def test_a_broken_batch_is_refused(change, words):
    model = classifier(small_config())
    with pytest.raises(ValueError, match=words):
        model(**(make_batch() | change))


ONE_CLASS, SEVERAL, NUMBERS = "single_label_classification", "multi_label_classification", "regression"


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem_type", "loss"),
    [
        (3, torch.tensor([0, 2, 1]), ONE_CLASS, nn.functional.cross_entropy),
        (3, torch.eye(3).roll(1, 0), SEVERAL, nn.functional.binary_cross_entropy_with_logits),
        (1, torch.tensor([0.7, 23.9, -1.5]), NUMBERS, lambda logits, labels: ((logits[:, 0] - labels) ** 2).mean()),
        (1, torch.tensor([[0], [1], [2]]), NUMBERS, lambda logits, labels: ((logits - labels) ** 2).mean()),
    ],
)
def test_the_problem_type_is_inferred_from_labels_as_in_transformers(num_labels, labels, problem_type, loss):
    """And kept in the configuration, so that a saved checkpoint knows it."""
    model = classifier(small_config(num_labels=num_labels))
    assert model.config.problem_type is None
    outputs = model(**make_batch(), labels=labels)
    assert model.config.problem_type == problem_type
    torch.testing.assert_close(outputs.loss, loss(outputs.logits, labels))
    # what transformers' own function says, which may set problem_type too
    reference = small_config(num_labels=num_labels)
    assert torch.allclose(
        outputs.loss,
        ForSequenceClassificationLoss(labels.float() if num_labels == 1 else labels, outputs.logits, reference),
    )
    assert reference.problem_type == problem_type


def test_a_compiled_model_infers_the_problem_type_too():
    model = classifier(small_config(num_hidden_layers=1, merge_sizes=[2], num_experts=[0]))
    compiled, labels = torch.compile(model, backend="eager", fullgraph=True), torch.eye(3)
    outputs = compiled(**make_batch(), labels=labels)
    torch.testing.assert_close(outputs.loss, nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels))
    assert model.config.problem_type == SEVERAL


def test_labels_that_are_refused_decide_nothing():
    model = classifier(small_config())
    with pytest.raises(ValueError, match="zeros and ones"):
        model(**make_batch(), labels=torch.tensor([0.0, 1.0, 2.0]))
    assert model.config.problem_type is None
    column = model(**make_batch(), labels=torch.tensor([[0], [1], [2]])).loss
    torch.testing.assert_close(column, model(**make_batch(), labels=torch.tensor([0, 1, 2])).loss)
    assert model.config.problem_type == ONE_CLASS


def test_regression_of_several_numbers_has_a_problem_type():
    labels = 50 * torch.randn(3, 2)
    model = classifier(small_config(num_labels=2, problem_type=NUMBERS))
    outputs = model(**make_batch(), labels=labels)
    torch.testing.assert_close(outputs.loss, ((outputs.logits - labels) ** 2).mean())
    assert outputs.loss > 100


@pytest.mark.parametrize(
    ("fields", "labels", "words"),
    [
        ({}, [0, 1, 3], r"There are labels \[3\], but they must be classes from 0 to 2"),
        ({}, [0, -100, 1], r"There are labels \[-100\], but they must be classes from 0 to 2"),
        ({"problem_type": ONE_CLASS}, [0.0, 1.0, 2.0], "needs labels that are integers, the class of each window"),
        ({}, [0.0, 1.0, 2.0], r"zeros and ones, a row for each window, of shape \[3, 3\]"),
        ({}, [0, 1], "needs labels that are integers"),
        ({}, [[0, 1, 1]] * 3, "'multi_label_classification' for several of num_labels labels at once"),
        ({}, [[0.0, 1.0, 23.5]] * 3, r"There are labels \[23.5\], but they must be 0 or 1"),
        (
            {"problem_type": SEVERAL},
            [[0.0, 1.0]] * 3,
            r"of shape \[3, 3\], but they are torch.float32 of shape \[3, 2\]",
        ),
        ({"problem_type": SEVERAL}, [0, 1, 2], "zeros and ones"),
        ({"problem_type": SEVERAL}, [[0.0, 1.0, torch.nan]] * 3, "they must be 0 or 1"),
        ({"num_labels": 1}, [0.5, torch.nan, 1.0], r"There are labels \[nan\], but they must be finite numbers"),
        (
            {"num_labels": 1},
            [[0.5, 1.0]] * 3,
            r"needs labels that are numbers, a row for each window, of shape \[3, 1\] or",
        ),
        ({"problem_type": NUMBERS}, [0.5, 1.0, 2.0], r"num_labels=3 needs labels that are numbers"),
    ],
)
def test_labels_that_the_problem_type_cannot_take_are_refused(fields, labels, words):
    with pytest.raises(ValueError, match=words):
        classifier(small_config(**fields))(**make_batch(), labels=torch.tensor(labels))


def test_standardised_targets_are_learned_and_answered_in_their_unit():
    """Ages: the loss is of standardised numbers, the answers are years, and both survive saving."""
    ages = torch.tensor([20.0, 50.0, 80.0])
    model = classifier(small_config(num_labels=1, target_mean=[50.0], target_scale=[20.0]))
    plain = classifier(small_config(num_labels=1))
    plain.load_state_dict(model.state_dict())
    outputs, standardised = model(**make_batch(), labels=ages), plain(**make_batch(), labels=(ages - 50) / 20)
    torch.testing.assert_close(outputs.logits, standardised.logits * 20 + 50)
    torch.testing.assert_close(outputs.loss, standardised.loss)
    half = model.to(torch.bfloat16)
    batch = make_batch()
    batch["input_values"], batch["electrode_positions"] = (
        batch["input_values"].bfloat16(),
        batch["electrode_positions"].bfloat16(),
    )
    assert half(**batch).logits.dtype == torch.float32, "bfloat16 would round ages to quarters of a year"


def test_balanced_bce_takes_several_labels():
    logits, labels = torch.randn(4, 3), torch.randint(0, 2, (4, 3))
    prior = torch.tensor([0.5, 0.3, 0.2])
    by_hand = nn.functional.binary_cross_entropy_with_logits(
        logits + 0.3 * torch.log(prior / (1 - prior)), labels.float(), reduction="sum"
    )
    config = small_config(loss_type="balanced_bce", class_prior=prior.tolist(), prior_weight=0.3, problem_type=SEVERAL)
    torch.testing.assert_close(classification_loss(logits, labels.float(), config), by_hand / 4)


@pytest.mark.slow
def test_overfits_a_handful_of_windows():
    """The whole classifier learns: eight windows of noise by heart."""
    model = NeurIPTForSequenceClassification(small_config(num_labels=2))
    batch, labels = make_batch(windows=8), torch.arange(8) % 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    assert (model.eval()(**batch).logits.argmax(-1) == labels).all()
