"""Arithmetic in blocks and tokens that nobody writes down give what the plain forms give."""

import pytest
import torch
from conftest import make_batch, small_config
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing._internal.two_tensor import TwoTensor

from neuript_hf import NeurIPTForPreTraining, NeurIPTForSequenceClassification, blockwise, modeling_neuript
from neuript_hf.modeling_neuript import NeurIPTExperts, eager_attention_forward
from neuript_hf.token_basis import ScalarTokens


@pytest.fixture
def small_blocks(monkeypatch):
    """So small that every tensor of a test is cut into several blocks, the last one shorter."""
    monkeypatch.setattr(blockwise, "BLOCK_TOKENS", 7)
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", 900)


def use_plain_forms(monkeypatch, token_basis: bool) -> None:
    """No blocks; with `token_basis` the tokens of scale 0 stay unwritten."""
    for module in (blockwise, modeling_neuript):
        monkeypatch.setattr(module, "usable", lambda *tensors: False)
    if not token_basis:
        monkeypatch.setattr(modeling_neuript, "is_plain", lambda *layers: False)


def whole_batch(hidden: bool) -> dict[str, Tensor]:
    """In float64, padded in time and channels; a window, a channel and single samples hidden where asked for."""
    batch = make_batch()
    batch = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in batch.items()}
    batch["attention_mask"] = torch.ones(3, 40, dtype=torch.bool)
    batch["attention_mask"][0, 31:] = False
    batch["channel_mask"] = torch.ones(3, 5, dtype=torch.bool)
    batch["channel_mask"][1, 3:] = False
    if hidden:
        batch["hidden_positions"] = torch.rand(3, 5, 40) < 0.4
        batch["hidden_positions"][2] = True
        batch["hidden_positions"][0, 1] = True
    return batch


def outcome(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Logits, loss terms and gradients of everything that has one, the signal included."""
    model.zero_grad()
    values = batch["input_values"].clone().requires_grad_()
    outputs = model(**(batch | {"input_values": values}))
    (outputs.logits.square().mean() + outputs.aux_loss).backward()
    found = {"logits": outputs.logits, "aux_loss": outputs.aux_loss, "input_values": values.grad}
    return found | {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_class", [NeurIPTForSequenceClassification, NeurIPTForPreTraining])
def test_model_equals_its_plain_forms(model_class, attention, masked, small_blocks, monkeypatch):
    """Outputs and every gradient to 1e-10 in float64: blocks or not, tokens written down or not, masks or not."""
    model = model_class(small_config(decoder_num_experts=[2] + [0] * 6, cross_num_experts=[0, 3] + [0] * 5)).double()
    model.set_experts_implementation("eager")
    model.set_attn_implementation(attention)
    batch = whole_batch(hidden=model_class is NeurIPTForPreTraining)
    if not masked:
        batch = {name: batch[name] for name in ("input_values", "electrode_positions", "lobe_mask")}
    blocks = outcome(model, batch)
    for token_basis in (True, False):
        use_plain_forms(monkeypatch, token_basis)
        plain = outcome(model, batch)
        assert plain.keys() == blocks.keys()
        for name, tensor in plain.items():
            torch.testing.assert_close(blocks[name], tensor, atol=1e-10, rtol=1e-8, msg=f"{name}, {token_basis=}")


def test_blocks_are_taken(monkeypatch):
    """What the test above compares does differ: all functions of `blockwise` run, and none where it is not usable."""
    calls = set()
    for name in ("_DroppedSum", "_Linears", "_SwiGLU", "_SwiGLUExperts", "_Attention"):
        function = getattr(blockwise, name)

        def apply(*arguments, _name=name, _apply=function.apply):
            calls.add(_name)
            return _apply(*arguments)

        monkeypatch.setattr(function, "apply", apply)
    model = NeurIPTForPreTraining(small_config(hidden_dropout=0.1, attention_dropout=0.1))
    model.set_experts_implementation("eager")
    model(**make_batch())
    assert calls == {"_DroppedSum", "_Linears", "_SwiGLU", "_SwiGLUExperts", "_Attention"}
    calls.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**make_batch())
    assert not calls


# One by one: gradients by finite differences, with the same seed before each evaluation


def check_gradients(function, *inputs: Tensor) -> None:
    def seeded(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        torch.manual_seed(4)
        return function(*inputs)

    inputs = [tensor.double().requires_grad_() for tensor in inputs]
    # rounding of the finite differences is random as well, hence no exact repetition is asked for
    assert torch.autograd.gradcheck(seeded, inputs, nondet_tol=1e-12)


def test_gradients_of_dropped_sum(small_blocks):
    check_gradients(
        lambda a, b: blockwise.add_dropped(a, b, nn.Dropout(0.4)), torch.randn(3, 5, 2), torch.randn(3, 5, 2)
    )


def test_gradients_of_linear_layers(small_blocks):
    layers = [nn.Linear(3, 2).double(), nn.Linear(3, 4).double()]

    def run(states, *parameters):
        for parameter, value in zip(
            [p for layer in layers for p in (layer.weight, layer.bias)], parameters, strict=True
        ):
            parameter.data = value.data
        flat = blockwise._Linears.apply(states.flatten(0, -2), *parameters)
        through_layers = blockwise.linears(states, *layers)
        for ours, theirs in zip(flat, through_layers, strict=True):
            assert torch.equal(ours, theirs.flatten(0, -2))
        return flat

    parameters = [tensor for layer in layers for tensor in (layer.weight.detach(), layer.bias.detach())]
    check_gradients(run, torch.randn(2, 9, 3), *parameters)


def test_gradients_of_swiglu(small_blocks):
    def run(tokens, *parameters):
        return blockwise._SwiGLU.apply(tokens, *parameters, True)

    check_gradients(run, torch.randn(9, 3), torch.randn(8, 3), torch.randn(8), torch.randn(3, 4), torch.randn(3))


def test_gradients_of_experts(small_blocks):
    """One expert with many tokens, one with few, one with none."""
    kept = torch.tensor([[0, 1]] * 2 + [[0, 3]] * 9)
    parameters = (torch.randn(4, 4, 3), torch.randn(4, 4), torch.randn(4, 3, 2), torch.randn(4, 3))

    def run(tokens, weights, *parameters):
        return blockwise.swiglu_experts(tokens, kept, weights, *parameters)

    check_gradients(run, torch.randn(11, 3), torch.rand(11, 2), *parameters)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("mask", [None, (4, 1, 1, 5), (4, 1, 3, 5)])
def test_gradients_of_attention(mask, dropout, monkeypatch):
    """The backward pass draws the bits of the forward pass once more, and must drop the same."""
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", 45)
    if mask is not None:
        mask = torch.rand(mask) < 0.6
        mask[..., 0] = True

    def run(query, key, value):
        return blockwise.attention_forward(None, query, key, value, mask, scaling=0.7, dropout=dropout)[0]

    query, key, value = torch.randn(4, 2, 3, 2), torch.randn(4, 2, 5, 2), torch.randn(4, 2, 5, 2)
    check_gradients(run, query, key, value)
    if dropout == 0:
        module = nn.Module()
        plain, _ = eager_attention_forward(module, query, key, value, mask, scaling=0.7)
        torch.testing.assert_close(run(query, key, value), plain)


# Dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropped_share_and_expectation(probability):
    """1 - p stays, divided by 1 - p; five standard deviations of a hundred thousand draws."""
    residual, update = torch.zeros(100, 1000), torch.ones(100, 1000)
    total = blockwise.add_dropped(residual, update, nn.Dropout(probability))
    spread = (probability * (1 - probability) / total.numel()) ** 0.5
    assert abs((total != 0).double().mean().item() - (1 - probability)) < 5 * spread
    torch.testing.assert_close(total[total != 0], torch.full_like(total[total != 0], 1 / (1 - probability)))
    # neighbours, which share a draw of 64 bits, are dropped independently of each other
    kept = (total != 0).double() - (1 - probability)
    for distance in (1, 2, 3, 4):
        assert abs((kept[:, distance:] * kept[:, :-distance]).mean().item()) < 5 * spread


def test_attention_dropout_has_the_right_expectation():
    query, key, value = (torch.randn(1, 1, 6, 4) for _ in range(3))
    expected = F.scaled_dot_product_attention(query, key, value, scale=0.5).transpose(1, 2)
    many = [tensor.expand(20000, -1, -1, -1) for tensor in (query, key, value)]
    attended, _ = blockwise.attention_forward(None, *many, None, scaling=0.5, dropout=0.3)
    deviation = attended.std(0) / 20000**0.5
    assert ((attended.mean(0) - expected[0]).abs() < 5 * deviation).all()


def test_dropout_follows_the_seed():
    model = NeurIPTForSequenceClassification(small_config(hidden_dropout=0.2, attention_dropout=0.2))
    batch, found = make_batch(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model(**batch).logits)
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2])
    model.eval()
    assert torch.equal(model(**batch).logits, model(**batch).logits)


def test_dropout_at_its_ends():
    """0 adds all, 1 nothing, and evaluation drops nothing."""
    residual, update = torch.randn(4, 6), torch.randn(4, 6)
    assert torch.equal(blockwise.add_dropped(residual, update, nn.Dropout(0.0)), residual + update)
    assert torch.equal(blockwise.add_dropped(residual, update, nn.Dropout(1.0)), residual)
    assert torch.equal(blockwise.add_dropped(residual, update, nn.Dropout(0.5).eval()), residual + update)


# Tokens of scale 0


@pytest.mark.parametrize("hidden", [False, True])
def test_unwritten_tokens(hidden):
    """Layer norm and projections of the parts equal those of the tokens to 1e-10; also where a layer has a hook."""
    parts = ScalarTokens(torch.randn(2, 3, 8).double(), torch.randn(6).double(), torch.randn(8, 6).double())
    if hidden:
        parts = parts._replace(hidden=torch.rand(2, 3, 8) < 0.4, mask_token=torch.randn(6).double())
    norm = nn.LayerNorm(6).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    layers = [nn.Linear(6, 4).double(), nn.Linear(6, 5).double()]
    tokens = parts.tokens()
    by_hand = parts.signal[..., None] * parts.slope + parts.codes
    assert torch.equal(tokens, torch.where(parts.hidden[..., None], parts.mask_token, by_hand) if hidden else by_hand)
    normed = norm(tokens).flatten(0, 1)
    basis = parts.normed(norm)
    written = torch.einsum("ntk,tkd->ntd", basis.coefficients, basis.vectors)
    torch.testing.assert_close(written, normed, atol=1e-10, rtol=0)
    for projected, layer in zip(basis.project(*layers), layers, strict=True):
        torch.testing.assert_close(projected, layer(normed), atol=1e-10, rtol=0)
    layers[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    for projected, layer in zip(basis.project(*layers), layers, strict=True):
        torch.testing.assert_close(projected, layer(normed), atol=1e-10, rtol=0)


# Where blocks must not be used


def test_layers_that_are_not_plain():
    def changed(change) -> nn.Linear:
        layer = nn.Linear(3, 3)
        return change(layer) or layer

    assert blockwise.is_plain(nn.Linear(3, 3), nn.Linear(3, 4))
    for layer in (
        nn.Linear(3, 3, bias=False),
        modeling_neuript.NeurIPTReadout(3, 3),
        changed(lambda layer: layer.register_forward_hook(lambda *arguments: None) and None),
        changed(lambda layer: layer.register_forward_pre_hook(lambda *arguments: None) and None),
        changed(lambda layer: layer.register_full_backward_hook(lambda *arguments: None) and None),
        changed(lambda layer: layer.__dict__.update(forward=lambda states: states)),
        changed(nn.utils.parametrizations.weight_norm),
    ):
        assert not blockwise.is_plain(nn.Linear(3, 3), layer)


def test_tensors_that_are_not_plain():
    states = torch.randn(4, 3)
    assert blockwise.usable(states, nn.Parameter(states), states.clone())
    assert not blockwise.usable(states, states.double())
    assert not blockwise.usable(states.bfloat16())
    assert not blockwise.usable(states.to("meta"))
    # sharded and quantised weights are tensors of their own classes
    assert not blockwise.usable(states, TwoTensor(states, states))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not blockwise.usable(states)
    assert torch.equal(torch.func.vmap(lambda row: row * blockwise.usable(row))(states), torch.zeros(4, 3))


def test_second_derivatives_are_refused():
    """Rather than being wrong."""
    states = torch.randn(4, 3, requires_grad=True)
    (output,) = blockwise.linears(states, nn.Linear(3, 3))
    (gradient,) = torch.autograd.grad(output.square().sum(), states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_experts_in_blocks_equal_the_loop(monkeypatch):
    """The eager implementation in float32, with and without blocks."""
    config = small_config()
    config._experts_implementation = "eager"
    experts = NeurIPTExperts(config, 3)
    for parameter in experts.parameters():
        nn.init.normal_(parameter, std=0.3)
    weights, kept = torch.randn(30, 3).softmax(-1).topk(2)
    tokens = torch.randn(30, 16)
    blocks = experts(tokens, kept, weights)
    use_plain_forms(monkeypatch, token_basis=True)
    torch.testing.assert_close(experts(tokens, kept, weights), blocks, atol=1e-5, rtol=1e-5)
