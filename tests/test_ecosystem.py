"""What the tools around transformers make of the model: the same numbers, whichever of them runs it."""

import sys
import types
from pathlib import Path

import pytest
import torch
from conftest import (
    COMPACT,
    ROOT,
    TWO_PROCESSES,
    exact,
    gradients_of,
    in_double,
    make_batch,
    masked_batch,
    run_python,
    small_config,
)
from distributed_step import ACCUMULATED, MODELS, STEPS, make_model, make_windows, train
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from neuript_hf import (
    NeurIPTConfig,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
)
from neuript_hf.modeling_neuript import NeurIPTAttention, NeurIPTExperts


def shallow_config(**kwargs) -> NeurIPTConfig:
    """One dense layer and one with experts."""
    return small_config(**({"num_hidden_layers": 2, "merge_sizes": [1, 2], "num_experts": [0, 2]} | kwargs))


def gradients(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradient of their squares with respect to every parameter."""
    model.zero_grad()
    logits = model(**batch).logits
    logits.square().mean().backward()
    return logits.detach(), gradients_of(model)


# Implementations of attention and experts


@pytest.mark.parametrize("model_class", [NeurIPTForSequenceClassification, NeurIPTForPreTraining])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_implementations_agree(model_class, masked):
    """Eager and sdpa, outputs and gradients."""
    model = exact(model_class(shallow_config()).eval())
    batch = in_double(masked_batch(hidden=model_class is NeurIPTForPreTraining) if masked else make_batch())
    found = []
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        found.append(gradients(model, batch))
    torch.testing.assert_close(*found, atol=1e-10, rtol=1e-10)


@pytest.mark.slow
def test_flex_attention_agrees():
    """With and without masks; a whole layer, as compiling the kernel takes ten seconds."""
    model = NeurIPTForSequenceClassification(
        small_config(num_hidden_layers=1, merge_sizes=[1], num_experts=[2])
    ).eval()
    batches = [make_batch(), masked_batch()]
    with torch.no_grad():
        expected = [model(**batch).logits for batch in batches]
        model.set_attn_implementation("flex_attention")
        assert model.neuript.config._attn_implementation == "flex_attention"
        torch.testing.assert_close([model(**batch).logits for batch in batches], expected, atol=1e-5, rtol=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the refusal without a GPU")
@pytest.mark.parametrize("version", [2, 3])
def test_flash_attention_without_its_package_is_refused(version):
    """Transformers' own words, at construction and at switching; the model stays as it was."""
    model = NeurIPTForSequenceClassification(shallow_config())
    with pytest.raises((ImportError, ValueError), match=f"(?i)flash.?attention.?{version}"):
        model.set_attn_implementation(f"flash_attention_{version}")
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises((ImportError, ValueError), match=f"(?i)flash.?attention.?{version}"):
        NeurIPTModel._from_config(shallow_config(), attn_implementation=f"flash_attention_{version}")


def test_flash_attention_is_never_given_a_mask(monkeypatch):
    """
    It drops the queries of masked keys, which hidden samples need, and knows masks `[rows, keys]` only: where there is
    a mask, sdpa runs. A stand-in plays the kernel.
    """
    model = NeurIPTForPreTraining(shallow_config()).eval()
    batches = [make_batch(), masked_batch(hidden=True)]
    expected = [model(**batch).logits for batch in batches]
    masks = []

    def stand_in(module, query, key, value, attention_mask, scaling, **kwargs):
        masks.append(attention_mask)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling)
        return attended.transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", stand_in)
    model.config._attn_implementation = "flash_attention_2"
    torch.testing.assert_close([model(**batch).logits for batch in batches], expected, atol=1e-5, rtol=1e-5)
    assert masks and all(mask is None for mask in masks)


def test_no_attention_is_causal():
    model = NeurIPTForPreTraining(small_config())
    modules = [module for module in model.modules() if isinstance(module, NeurIPTAttention)]
    assert len(modules) == 2 * 6 + 3 * 7 and all(module.is_causal is False for module in modules)


def some_experts(count: int) -> tuple[NeurIPTExperts, Tensor, Tensor, Tensor]:
    """Experts, and what they take: 50 tokens, the kept half of the experts and their weights."""
    config = shallow_config()
    config._experts_implementation = "eager"
    module = NeurIPTExperts(config, count)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    weights, kept = torch.randn(50, count).softmax(-1).topk((count + 1) // 2)
    return module, torch.randn(50, 16, requires_grad=True), kept, weights.requires_grad_()


@pytest.mark.parametrize("experts", ["grouped_mm", "batched_mm"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_experts_implementations_agree(experts, count):
    """The experts alone, with biases and half of them kept: outputs and gradients of everything that they take."""
    module, tokens, kept, weights = some_experts(count)
    taken, direction = [tokens, weights, *module.parameters()], torch.randn(50, 16)

    def outcome():
        mixed = module(tokens, kept, weights)
        return [mixed.detach(), *torch.autograd.grad((mixed * direction).sum(), taken)]

    expected = outcome()
    module.config._experts_implementation = experts
    torch.testing.assert_close(outcome(), expected, atol=1e-5, rtol=1e-5)


def test_experts_under_autocast():
    """Products in bfloat16, as a GPU runs pre-training; tokens keep their type."""
    module, tokens, kept, weights = some_experts(4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(tokens, kept, weights)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, module(tokens, kept, weights), atol=0.05, rtol=0.05)


def test_eager_experts_are_the_default(monkeypatch):
    """Also beside a GPU, where transformers would take grouped_mm, which is slower here (docs/ecosystem.md)."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert NeurIPTModel(shallow_config()).config._experts_implementation == "eager"


def test_expert_width_that_grouped_mm_cannot_do():
    """37 is no multiple of 8: works as it comes, and asking for grouped_mm says what to do."""
    config = shallow_config(moe_intermediate_size=37)
    model = NeurIPTForSequenceClassification(config)
    model(**make_batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    for change in (
        lambda: model.set_experts_implementation("grouped_mm"),
        lambda: NeurIPTModel._from_config(config, experts_implementation="grouped_mm"),
    ):
        with pytest.raises(ValueError, match="needs multiples of 8.*Use 'eager'"):
            change()
    decoder_only = shallow_config(moe_intermediate_size=37, num_experts=[0, 0], cross_num_experts=[0, 2, 0])
    with pytest.raises(ValueError, match="needs multiples of 8"):
        NeurIPTForPreTraining._from_config(decoder_only, experts_implementation="grouped_mm")


NOTEBOOK_HEAD = """
from torch import nn
from neuript_hf import NeurIPTModel
from neuript_hf.modeling_neuript import NeurIPTPreTrainedModel

class SleepDepth(NeurIPTPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.neuript = NeurIPTModel(config)
        self.depth = nn.Linear(config.num_scales * config.num_pooling_groups * config.hidden_size, 1)
        self.post_init()

    def forward(self, input_values, **kwargs):
        return self.depth(self.neuript(input_values, **kwargs).pooler_output)
"""


def test_a_head_from_a_notebook_switches_implementations(monkeypatch, tmp_path):
    """No source file, which transformers would search for what the class can do; also saved and loaded."""
    notebook = types.ModuleType("notebook_of_a_user")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    exec(NOTEBOOK_HEAD, notebook.__dict__)
    head = notebook.SleepDepth(shallow_config()).eval()
    batch = masked_batch()
    expected = head(**batch)
    for attention in ("eager", "sdpa"):
        for experts in ("grouped_mm", "batched_mm", "eager"):
            head.set_attn_implementation(attention)
            head.set_experts_implementation(experts)
            attention_module = head.neuript.layers[0].two_stage_attention.time_stage.attention
            for config in (head.config, head.neuript.config, attention_module.config):
                assert config._attn_implementation == attention and config._experts_implementation == experts
            torch.testing.assert_close(head(**batch), expected, atol=1e-5, rtol=0)
    head.save_pretrained(tmp_path)
    again = notebook.SleepDepth.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert again.config._attn_implementation == "eager"
    torch.testing.assert_close(again(**batch), expected, atol=1e-5, rtol=0)


# Compilation and low precision


@pytest.mark.slow
def test_compiled_classifier():
    """One graph without a break, made once, for two windows and for three."""
    torch._dynamo.reset()
    model = NeurIPTForSequenceClassification(shallow_config()).eval()
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        for windows in (2, 3):
            batch = make_batch(windows=windows, seed=windows)
            expected = model(**batch).logits
            for tensor in batch.values():
                torch._dynamo.mark_dynamic(tensor, 0)
            torch.testing.assert_close(compiled(**batch).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_compiled_pre_training_step():
    """Forward and backward without a graph break (`aot_eager` spares the C++ compiler), with hidden samples."""
    torch._dynamo.reset()
    model, batch = exact(NeurIPTForPreTraining(shallow_config())), in_double(masked_batch(hidden=True))
    expected = gradients(model, batch)
    model.compile(fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(model, batch), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("model_class", [NeurIPTForSequenceClassification, NeurIPTForPreTraining])
def test_autocast_to_bfloat16(model_class):
    """
    Finite, and near float32: bfloat16 keeps 8 bits, so each of some twenty roundings in a row costs up to 0.4 %, and
    a token at the border of two experts may change sides; hence 10 % of the norm.
    """
    model = model_class(shallow_config())
    batch = make_batch()
    logits, expected = gradients(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(**batch).logits
    assert low.isfinite().all()
    assert (low.float() - logits).norm() < 0.1 * logits.norm()
    model.zero_grad()
    low.float().square().mean().backward()
    found = torch.cat([gradient.flatten() for gradient in gradients_of(model).values()])
    expected = torch.cat([gradient.flatten() for gradient in expected.values()])
    assert found.isfinite().all() and (found - expected).norm() < 0.2 * expected.norm()


# Export


@pytest.mark.slow
@pytest.mark.parametrize("model_class", [NeurIPTForSequenceClassification, NeurIPTModel])
def test_exported_program_takes_any_number_of_windows_and_channels(model_class):
    model = model_class(shallow_config(**COMPACT)).eval()
    batch = make_batch()
    windows, channels = torch.export.Dim("windows", min=1, max=1024), torch.export.Dim("channels", min=2, max=256)
    shapes = {name: {0: windows, 1: channels} for name in batch}
    program = torch.export.export(model, (), batch, dynamic_shapes=shapes, strict=False)
    for sizes in ((1, 5), (4, 2), (2, 70)):
        other = make_batch(*sizes)
        found, expected = program.module()(**other), model(**other)
        name = "logits" if model_class is NeurIPTForSequenceClassification else "embedding"
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory) -> dict[str, Path]:
    """A classifier and an encoder with their extractor: five channels, one second. For ONNX."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    folders = {}
    ages = {"num_labels": 1, "target_mean": [45.0], "target_scale": [15.0]}
    for name, model_class, fields in (
        ("classifier", NeurIPTForSequenceClassification, {}),
        ("regression", NeurIPTForSequenceClassification, ages),
        ("encoder", NeurIPTModel, COMPACT),
    ):
        folders[name] = tmp_path_factory.mktemp(name)
        model_class(shallow_config(**fields)).save_pretrained(folders[name])
        montage = ["Fp1", "C3", "Cz", "C4", "O2"]
        NeurIPTFeatureExtractor(montage=montage, window_seconds=1.0).save_pretrained(folders[name])
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "regression", "encoder"])
def test_onnx_file_equals_the_model(kind, saved_models, tmp_path):
    """To 1e-4, for other numbers of windows than the traced one; numbers to predict are in the unit of the labels."""
    from export_onnx import cost_of_int8, export, largest_error, load, random_windows, run

    model, extractor = load(saved_models[kind]), NeurIPTFeatureExtractor.from_pretrained(saved_models[kind])
    path = tmp_path / "model.onnx"
    export(model, random_windows(extractor, [], None, 2, 0), path)
    for count in (1, 2, 7):
        assert largest_error(model, path, random_windows(extractor, [], None, count, count)) < 1e-4
    if kind == "regression":
        (ages,) = run(path, windows := random_windows(extractor, [], None, 5, 0))
        assert 0 < ages.min() and ages.max() < 90 and "same_class" not in cost_of_int8(model, path, windows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["neuript-tiny", "neuript-tiny-eyes", "neuript-tiny-arithmetic", "neuript-small"])
def test_every_shipped_checkpoint_becomes_an_onnx_file(name, tmp_path, monkeypatch, capsys):
    """The documented command, with nothing but the checkpoint's name; short windows keep the test quick."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import export_onnx

    model, extractor = (
        export_onnx.load(str(ROOT / "hub" / name)),
        NeurIPTFeatureExtractor.from_pretrained(ROOT / "hub" / name),
    )
    windows = export_onnx.random_windows(extractor, [], None, 1, 0)
    assert windows["input_values"].shape == (1, 19, 256)
    assert all(
        tensor.isfinite().all() for tensor in export_onnx.ByPlace(model)(*(windows[n] for n in export_onnx.INPUTS))
    )
    if name in (
        "neuript-tiny",
        "neuript-tiny-eyes",
    ):  # an encoder and a classifier; the others are of the same classes
        command = ["export_onnx.py", "--model", str(ROOT / "hub" / name), "--output", str(tmp_path / "model.onnx")]
        monkeypatch.setattr(sys, "argv", [*command, "--samples", "64"])
        export_onnx.main()
        assert "19 channels, 64 samples" in capsys.readouterr().out and (tmp_path / "model.onnx").is_file()


def test_a_head_that_was_never_trained_is_not_exported(tmp_path):
    pytest.importorskip("onnxruntime")
    import export_onnx

    NeurIPTForPreTraining(shallow_config()).save_pretrained(tmp_path / "pre-trained")
    NeurIPTForSequenceClassification.from_pretrained(tmp_path / "pre-trained").save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match="no trained weights for classifier"):
        export_onnx.load(str(tmp_path / "headless"))


@pytest.mark.slow
def test_cost_of_int8(saved_models, tmp_path):
    """
    Over three models from random weights and 64 windows each, 8 bits cost 3 to 11 % of the logits' norm and changed
    the most likely class of at most 6 % of the windows; allowed is twice that.
    """
    from export_onnx import cost_of_int8, export, load, quantise, random_windows

    folder = saved_models["classifier"]
    model, extractor = load(folder), NeurIPTFeatureExtractor.from_pretrained(folder)
    path = tmp_path / "model.onnx"
    export(model, random_windows(extractor, [], None, 2, 0), path)
    smaller = quantise(path)
    cost = cost_of_int8(model, smaller, random_windows(extractor, [], None, 64, 1))
    assert 0 < cost["relative_error"] < 0.22
    assert cost["same_class"] >= 0.88
    assert smaller.stat().st_size < path.stat().st_size


@pytest.mark.slow
def test_export_program(saved_models, tmp_path):
    """The script as a user runs it: both files, parity and the cost of int8 in print."""
    arguments = ["--model", saved_models["classifier"], "--output", tmp_path / "files" / "model.onnx", "--int8"]
    printed = run_python(ROOT / "examples" / "export_onnx.py", *arguments)
    assert (tmp_path / "files" / "model.onnx").is_file() and (tmp_path / "files" / "model.int8.onnx").is_file()
    for words in ("5 channels, 64 samples", "from the checkpoint", "of the output's norm", "class stays the same"):
        assert words in printed
    assert printed.splitlines()[-1] == "done"


# Adapters


EXPERT_PARAMETERS = ["experts.gate_up_proj", "experts.down_proj"]


@pytest.mark.parametrize(
    "targets",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": [], "target_parameters": EXPERT_PARAMETERS},
        {"target_modules": ["token", "up_proj", "o_proj"], "target_parameters": EXPERT_PARAMETERS},
    ],
    ids=["attention", "experts", "token-and-feed-forward"],
)
@pytest.mark.parametrize("model_class", [NeurIPTForSequenceClassification, NeurIPTForPreTraining])
def test_adapters(model_class, targets, tmp_path):
    """
    LoRA acts wherever it was put, also in the first layers of encoder and decoder, whose tokens are never written
    down: the adapted model equals the merged one, every adapter gets a gradient, and it comes back from its files.
    """
    peft = pytest.importorskip("peft")
    config = shallow_config(decoder_num_experts=[2, 0, 0])
    model = exact(model_class(config).eval())
    batch = in_double(masked_batch(hidden=model_class is NeurIPTForPreTraining))
    with torch.no_grad():
        plain = model(**batch).logits
    # random weights instead of a zero start, so that every adapter matters at once
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, init_lora_weights=False, **targets)).double()
    logits = adapted.train()(**batch).logits
    logits.square().mean().backward()
    trainable = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trainable and all("lora" in name for name in trainable)
    for name, parameter in trainable.items():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    with torch.no_grad():
        evaluated = adapted.eval()(**batch).logits
    torch.testing.assert_close(evaluated, logits, atol=1e-8, rtol=1e-8)
    assert (evaluated - plain).norm() > 1e-3 * plain.norm()

    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(**batch).logits, evaluated, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(merged.train()(**batch).logits, evaluated, atol=1e-8, rtol=1e-8)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the fixture's: the weights that the first model started from
        base = exact(model_class(config).eval())
    again = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").double().eval()
    torch.testing.assert_close(again(**batch).logits, evaluated, atol=1e-8, rtol=1e-8)


# Placement


@pytest.mark.parametrize("encoding", ["3d", "channel_index", "learned_2d"])
@pytest.mark.parametrize(
    "part", ["", "neuript", "neuript.embeddings", "neuript.layers.0", "decoder.0", "decoder.0.memory_norm"]
)
def test_offloaded_weights(part, encoding):
    """The weights of a part are nowhere except while it runs: shortcuts must not read them at another time."""
    from accelerate import cpu_offload

    model = NeurIPTForPreTraining(shallow_config(position_encoding=encoding)).eval()
    batch = masked_batch(hidden=True)
    with torch.no_grad():
        expected = model(**batch).logits
        cpu_offload(model.get_submodule(part), execution_device=torch.device("cpu"))
        assert any(parameter.is_meta for parameter in model.parameters())
        torch.testing.assert_close(model(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_dispatched_model(tmp_path):
    """By `device_map` at loading; and some parts here, some on disk, no layer cut in two (`_no_split_modules`)."""
    from accelerate import dispatch_model, infer_auto_device_map

    model = NeurIPTForPreTraining(shallow_config()).eval()
    batch = masked_batch(hidden=True)
    expected = model(**batch).logits
    model.save_pretrained(tmp_path / "saved")
    loaded = NeurIPTForPreTraining.from_pretrained(tmp_path / "saved", device_map="cpu").eval()
    torch.testing.assert_close(loaded(**batch).logits, expected, atol=1e-5, rtol=1e-5)
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    places = infer_auto_device_map(
        model, {"cpu": size // 2, "disk": 10 * size}, no_split_module_classes=model._no_split_modules
    )
    assert set(places.values()) == {"cpu", "disk"}
    dispatch_model(model, places, main_device="cpu", offload_dir=tmp_path / "offload", force_hooks=True)
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, expected, atol=1e-5, rtol=1e-5)


# Two processes, and gradient accumulation


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("two_processes")
    run_python(*TWO_PROCESSES, ROOT / "tests" / "distributed_step.py", folder)
    return torch.load(folder / "results.pt")


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", MODELS)
def test_sharded_weights(kind, version, two_processes):
    """FSDP, both versions, cut by the classes of `_no_split_modules`: loss and gradients of the whole batch."""
    loss, sharded = two_processes["fsdp", kind, version]
    model = make_model(kind)
    outputs = model(**make_windows(kind, 4))
    outputs.loss.backward()
    assert loss == pytest.approx(outputs.loss.item(), abs=1e-5)
    for name, gradient in gradients_of(model).items():
        torch.testing.assert_close(sharded[name], gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_two_processes_train_as_one(kind, two_processes, tmp_path):
    """
    The same losses over 50 steps at the same global batch: 2 windows in each of two processes, 4 in one, though
    windows differ in channels and selected samples: counts and the routers' statistics are those of both processes.
    """
    losses, weights = train(kind, 4, str(tmp_path))
    found, found_weights = two_processes["trainer", kind]
    assert len(losses) == len(found) == STEPS and losses[0] != losses[-1]
    assert found == pytest.approx(losses, abs=1e-4)
    torch.testing.assert_close(found_weights, weights, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_accumulated_gradients(kind, two_processes, tmp_path):
    """
    4 batches of 2 windows, two such batches in each of two processes, and one batch of 8: the same weights after 4
    steps, though windows differ in channels and selected samples.
    """
    losses, weights = train(kind, 8, str(tmp_path), **ACCUMULATED)
    one = train(kind, 2, str(tmp_path), gradient_accumulation_steps=4, **ACCUMULATED)
    for found, found_weights in (one, two_processes["accumulated", kind]):
        assert found == pytest.approx(losses, abs=1e-4)
        torch.testing.assert_close(found_weights, weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    ("kind", "fields"), [("classifier", {}), ("pretraining", {}), ("pretraining", {"decoder_size": 4})]
)
def test_gradient_checkpointing_with_dropout(kind, fields, reentrant):
    """The second run of a layer drops what the first one dropped: gradients equal those without checkpointing."""
    model = make_model(kind, hidden_dropout=0.3, attention_dropout=0.2, router_noise=0.01, **fields).train()
    windows = make_windows(kind, 4)
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.zero_grad()
        torch.manual_seed(3)
        loss = model(**windows).loss
        loss.backward()
        found.append((loss.item(), gradients_of(model)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-6, rtol=1e-5)
