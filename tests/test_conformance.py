"""
docs/model.md section 17 (1), (3), (4): tensors made with the authors' code, after conversion and `from_pretrained`.

The authors' code works on plain arrays, so electrodes enter through the converted extractor's own coordinates.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModelForPreTraining, AutoModelForSequenceClassification

from conversion.convert_neuript_to_hf import convert
from neuript_hf import NeurIPTForPreTraining, NeurIPTForSequenceClassification, verify


FIXTURES = Path(__file__).parent / "fixtures" / "conformance"
CLASSIFICATION = ["classification_tuev", "classification_bcic2a_uneven", "classification_binary"]
TOLERANCE = 1e-4
# Tensors and launch arguments of the case that tests change.
TENSORS = load_file(FIXTURES / "classification_tuev" / "weights.safetensors")
ARGUMENTS = json.loads((FIXTURES / "classification_tuev" / "args.json").read_text())


@pytest.fixture(scope="module", params=[*CLASSIFICATION, "pretraining"])
def case(request, tmp_path_factory):
    """Model and extractor of one case, converted and loaded again, with what the authors' code gives."""
    source = FIXTURES / request.param
    folder = tmp_path_factory.mktemp(request.param)
    convert(source / "weights.safetensors", source / "args.json", folder)
    auto_class = AutoModelForPreTraining if request.param == "pretraining" else AutoModelForSequenceClassification
    model = auto_class.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    expected = load_file(source / "expected.safetensors")
    features = extractor.channel_features()
    inputs = {
        "input_values": expected["input"],
        "electrode_positions": torch.as_tensor(features["electrode_positions"]).float().expand(2, -1, -1),
        "lobe_mask": torch.as_tensor(features["lobe_mask"]).expand(2, -1, -1),
    }
    if "mask_0" in expected:
        inputs["hidden_positions"] = expected["mask_0"].bool()
    return request.param, model, extractor, inputs, expected, folder


def close(tensor, expected):
    assert tensor.shape == expected.shape
    assert (tensor - expected).abs().max() < TOLERANCE


def convert_changed(folder, state, without=None, **arguments):
    """The case of TUEV converted in `folder`, with other tensors or launch arguments than the authors'."""
    save_file(state, folder / "weights.safetensors")
    (folder / "args.json").write_text(json.dumps(ARGUMENTS | arguments))
    return convert(folder / "weights.safetensors", folder / "args.json", folder / "converted", without)


def test_seven_scales(case):
    _, model, _, inputs, expected, _ = case
    outputs = model(**inputs, output_hidden_states=True)
    assert len(outputs.hidden_states) == 7
    for scale, states in enumerate(outputs.hidden_states):
        close(states, expected[f"scale_{scale}"])


def test_logits_or_predictions(case):
    name, model, _, inputs, expected, _ = case
    logits = model(**inputs).logits
    if name == "pretraining":
        close(logits, expected["predictions"])
        # the authors keep the hidden samples alone, in time-major order
        hidden = expected["mask_0"].bool()
        time_major = logits.transpose(1, 2)[hidden.transpose(1, 2)]
        assert time_major.numel() == expected["masked_predictions"].numel()
    elif name == "classification_binary":
        assert (logits[:, 0] == 0).all()
        close(logits[:, 1:], expected["logits"])
    else:
        close(logits, expected["logits"])


# docs/model.md section 8, for the 20 channels of the double banana.
GROUPS = {
    "Hemispheres": [[0, 1, 2, 3, 8, 9, 12, 13, 14, 15], [4, 5, 6, 7, 10, 11, 16, 17, 18, 19]],
    "Sagittal": [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]],
    "Coronal": [[0, 4, 12, 16], [1, 5, 13, 17], [2, 6, 14, 18], [3, 7, 15, 19], [8, 9, 10, 11]],
}


@pytest.mark.parametrize("part", GROUPS)
def test_pooling_variants(part, tmp_path):
    """
    Paper table 5: scales made by the authors' code, averaged over their channel groups, scale 0 first and then the
    coarsest, through their linear layer; and the converted checkpoint on the same windows.
    """
    expected = load_file(FIXTURES / "classification_tuev" / "expected.safetensors")
    order = [expected[f"scale_{scale}"].mean(dim=2) for scale in (0, 6, 5, 4, 3, 2, 1)]
    pooled = torch.cat([scale[:, group].mean(dim=1) for scale in order for group in GROUPS[part]], dim=1)
    name = "classification_head.classification_layer.weight"
    weight, bias = TENSORS[name][:, : pooled.shape[1]].contiguous(), TENSORS[name.replace("weight", "bias")]
    logits = pooled @ weight.T + bias

    convert_changed(tmp_path, TENSORS | {name: weight}, part=part)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "converted").eval()
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "converted")
    positions = torch.as_tensor(extractor.channel_features()["electrode_positions"]).expand(2, -1, -1)
    close(model(expected["input"], positions).logits, logits)


@pytest.mark.parametrize(
    ("data", "channels", "part", "groups"),
    [
        ("TUEV", 22, "Functional", 5),
        ("TUEV", 22, "Sagittal", 5),
        ("SEED-V", 17, "Hemispheres", 2),
        ("BCICIV-2A", 16, "Hemispheres", 2),
        ("BCICIV-2B", 3, "Functional", 3),
        ("BCICIV-2B", 2, "Hemispheres", 1),
    ],
)
def test_groups_of_every_montage(data, channels, part, groups, tmp_path):
    """The head has one vector for each of the authors' groups, and every channel of the montage is in one."""
    head = {"classification_head.classification_layer.weight": torch.zeros(6, 7 * groups * 32)}
    model = convert_changed(tmp_path, TENSORS | head, data=data, data_dim=channels, part=part).eval()
    features = AutoFeatureExtractor.from_pretrained(tmp_path / "converted").channel_features()
    inputs = {name: torch.as_tensor(values)[None] for name, values in features.items()}
    assert model(torch.randn(1, channels, 64), **inputs).logits.shape == (1, 6)


def test_auxiliary_loss(case):
    """In training mode, without dropout and noise, as the tensors were made."""
    _, model, _, inputs, expected, folder = case
    quiet = type(model).from_pretrained(folder, hidden_dropout=0.0, attention_dropout=0.0).train()
    close(quiet(**inputs).aux_loss[None], expected["aux_loss_train"])


def test_masks_of_each_scale(case):
    name, model, _, inputs, expected, _ = case
    if name != "pretraining":
        assert not any(key.startswith("mask_") for key in expected)
        return
    _, masks, *_ = model.neuript.encode(**{key: value for key, value in inputs.items() if key != "lobe_mask"})
    for scale in range(6):  # mask_s belongs to the input of layer s + 1 after merging
        assert torch.equal(masks[scale + 1].hidden, expected[f"mask_{scale}"].bool())


def test_position_codes(case):
    """Codes of the coordinates that the converted extractor gives: the authors' frame, their slip in channel 13."""
    _, model, extractor, inputs, expected, _ = case
    embeddings = model.neuript.embeddings
    if "spatial_encoding" in expected:
        channels = inputs["input_values"].shape[1]
        close(embeddings.spatial_code(channels, inputs["electrode_positions"])[0], expected["spatial_encoding"])
        close(embeddings.temporal_code(expected["temporal_encoding"].shape[0]), expected["temporal_encoding"])
    if extractor.montage == "double_banana":
        assert inputs["electrode_positions"][0, 12].tolist() == [20, 49, 8]  # the 13th, counted from 1


def test_converted_checkpoint_carries_its_switches(case):
    _, model, extractor, _, _, folder = case
    config = json.loads((folder / "config.json").read_text())
    assert config["normalize_router_probs"] is False and config["strict_masking"] is False
    assert config["expert_capacity_factor"] == 1.0 and config["balance_loss"] == "squared_mass"
    assert extractor.coordinate_frame == "montage"
    assert verify(folder)["passed"]


EXPERT = ".4.encode_layers.0.MLP2.experts.1."
SHAPE = r"wrong shape: .*up_proj.weight \(48, 32\), expected \(40, 32\)"
DECODER = load_file(FIXTURES / "pretraining" / "weights.safetensors")
WITH_DECODER = TENSORS | {name: DECODER[name] for name in DECODER if name.startswith(("decoder", "mask_token"))}


@pytest.mark.parametrize(
    ("extra", "missing", "arguments", "words"),
    [
        ({"encoder.surprise.weight": torch.zeros(2)}, None, {}, "left over: encoder.surprise.weight"),
        ({}, "encoder.encode_blocks.1.merge_layer.norm.bias", {}, "not filled: neuript.layers.1.merging.norm.bias"),
        ({}, EXPERT, {}, r"experts of neuript.layers.4.*numbered \[0, 2, 3\]"),
        ({}, None, {"d_ff": 20}, SHAPE),
        ({}, None, {"seg_len": 4}, "seg_len=4 has no counterpart"),
        ({}, None, {"part": "Coronal", "data": "SEED-V", "data_dim": 17}, "'Coronal' with data_dim=17 is unknown"),
        ({}, None, {"data": "Unheard"}, "No montage known for data='Unheard'"),
        ({}, None, {"data": "SEED-V"}, "data_dim=20, but the montages of data='SEED-V' have 17 channels"),
        (WITH_DECODER, None, {}, "Choose one: --without decoder mask_token, or --without classifier"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(extra, missing, arguments, words, tmp_path):
    state = {name: tensor for name, tensor in (TENSORS | extra).items() if missing is None or missing not in name}
    with pytest.raises(ValueError, match=words):
        convert_changed(tmp_path, state, **arguments)
    assert not (tmp_path / "converted").exists()


def test_prefixes_buffers_and_torch_files(tmp_path):
    """`module.` and `_orig_mod.` in front, buffers, and a `.pt` file give the same model."""
    plain = convert_changed(tmp_path, TENSORS)
    dressed = {f"module._orig_mod.{name}": tensor for name, tensor in TENSORS.items()}
    dressed["encoder.encode_blocks.0.encode_layers.0.temporal_PE.pe_t"] = torch.zeros(3)
    dressed["dec_in"] = torch.zeros(3)
    torch.save(dressed, tmp_path / "weights.pt")
    again = convert(tmp_path / "weights.pt", tmp_path / "args.json", tmp_path / "again")
    torch.testing.assert_close(dict(again.state_dict()), dict(plain.state_dict()), atol=0, rtol=0)


def test_code_in_a_torch_file_is_not_run(tmp_path):
    torch.save({"model": np.array(["x"], dtype=object)}, tmp_path / "weights.pt")
    with pytest.raises(Exception, match="weights_only|Unsupported|dictionary of tensors"):
        convert(tmp_path / "weights.pt", FIXTURES / "classification_tuev" / "args.json", tmp_path / "out")


@pytest.mark.parametrize(
    ("without", "model_class"),
    [(["decoder", "mask_token"], NeurIPTForSequenceClassification), (["classifier"], NeurIPTForPreTraining)],
)
def test_decoder_and_head_together_need_a_choice(without, model_class, tmp_path):
    assert type(convert_changed(tmp_path, WITH_DECODER, without=without)) is model_class
