"""
docs/model.md section 17 (1), (3), (4): tensors made with the authors' code, after conversion and `from_pretrained`.

The authors' code works on plain arrays, so electrodes enter through the converted extractor's own coordinates.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModelForPreTraining, AutoModelForSequenceClassification

from conversion.convert_neuript_to_hf import convert
from neuript_hf import verify


FIXTURES = Path(__file__).parent / "fixtures" / "conformance"
CLASSIFICATION = ["classification_tuev", "classification_bcic2a_uneven", "classification_binary"]
TOLERANCE = 1e-4


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
    source = FIXTURES / "classification_tuev"
    expected = load_file(source / "expected.safetensors")
    order = [expected[f"scale_{scale}"].mean(dim=2) for scale in (0, 6, 5, 4, 3, 2, 1)]
    pooled = torch.cat([scale[:, group].mean(dim=1) for scale in order for group in GROUPS[part]], dim=1)
    state = load_file(source / "weights.safetensors")
    name = "classification_head.classification_layer.weight"
    state[name] = state[name][:, : pooled.shape[1]].contiguous()
    logits = pooled @ state[name].T + state[name.replace("weight", "bias")]

    save_file(state, tmp_path / "weights.safetensors")
    arguments = json.loads((source / "args.json").read_text()) | {"part": part}
    (tmp_path / "args.json").write_text(json.dumps(arguments))
    convert(tmp_path / "weights.safetensors", tmp_path / "args.json", tmp_path / "converted")
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
    source = FIXTURES / "classification_tuev"
    state = load_file(source / "weights.safetensors")
    name = "classification_head.classification_layer.weight"
    state[name] = torch.zeros(6, 7 * groups * 32)
    save_file(state, tmp_path / "weights.safetensors")
    arguments = json.loads((source / "args.json").read_text()) | {"data": data, "data_dim": channels, "part": part}
    (tmp_path / "args.json").write_text(json.dumps(arguments))
    model = convert(tmp_path / "weights.safetensors", tmp_path / "args.json", tmp_path / "converted").eval()
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


@pytest.fixture
def original(tmp_path):
    """A copy of the authors' files that a test may damage."""
    source = FIXTURES / "classification_tuev"
    for name in ("weights.safetensors", "args.json"):
        shutil.copy(source / name, tmp_path / name)
    return tmp_path


def refused(folder, words, checkpoint="weights.safetensors", **options):
    with pytest.raises(ValueError, match=words):
        convert(folder / checkpoint, folder / "args.json", folder / "out", **options)
    assert not (folder / "out").exists()


def test_a_tensor_too_many_is_named(original):
    state = load_file(original / "weights.safetensors")
    save_file({**state, "encoder.surprise.weight": torch.zeros(2)}, original / "weights.safetensors")
    refused(original, "left over: encoder.surprise.weight")


def test_a_missing_tensor_is_named(original):
    state = load_file(original / "weights.safetensors")
    del state["encoder.encode_blocks.1.merge_layer.norm.bias"]
    save_file(state, original / "weights.safetensors")
    refused(original, "not filled: neuript.layers.1.merging.norm.bias")


def test_a_missing_expert_is_named(original):
    state = load_file(original / "weights.safetensors")
    state = {name: tensor for name, tensor in state.items() if ".4.encode_layers.0.MLP2.experts.1." not in name}
    save_file(state, original / "weights.safetensors")
    refused(original, r"experts of neuript.layers.4.*numbered \[0, 2, 3\]")


def test_a_wrong_shape_is_named(original):
    arguments = json.loads((original / "args.json").read_text())
    (original / "args.json").write_text(json.dumps(arguments | {"d_ff": 20}))
    refused(original, r"wrong shape: .*up_proj.weight \(48, 32\), expected \(40, 32\)")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seg_len": 4}, "seg_len=4 has no counterpart"),
        ({"part": "Coronal", "data": "SEED-V", "data_dim": 17}, "part='Coronal' with data_dim=17 is unknown"),
        ({"data": "Unheard"}, "No montage known for data='Unheard'"),
        ({"data": "SEED-V"}, "data_dim=20, but the montages of data='SEED-V' have 17 channels"),
    ],
)
def test_arguments_without_counterpart_are_refused(original, change, words):
    arguments = json.loads((original / "args.json").read_text())
    (original / "args.json").write_text(json.dumps(arguments | change))
    refused(original, words)


def test_prefixes_buffers_and_torch_files(original):
    """`module.` and `_orig_mod.` in front, buffers, and a `.pt` file give the same model."""
    state = load_file(original / "weights.safetensors")
    plain = convert(original / "weights.safetensors", original / "args.json", original / "plain")
    dressed = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    dressed["encoder.encode_blocks.0.encode_layers.0.temporal_PE.pe_t"] = torch.zeros(3)
    dressed["dec_in"] = torch.zeros(3)
    torch.save(dressed, original / "weights.pt")
    again = convert(original / "weights.pt", original / "args.json", original / "again")
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_code_in_a_torch_file_is_not_run(original):
    torch.save({"model": np.array(["x"], dtype=object)}, original / "weights.pt")
    with pytest.raises(Exception, match="weights_only|Unsupported|dictionary of tensors"):
        convert(original / "weights.pt", original / "args.json", original / "out")


def test_decoder_and_head_together_need_a_choice(original):
    state = load_file(original / "weights.safetensors")
    decoder = load_file(FIXTURES / "pretraining" / "weights.safetensors")
    both = state | {name: tensor for name, tensor in decoder.items() if name.startswith(("decoder", "mask_token"))}
    save_file(both, original / "weights.safetensors")
    refused(original, "Choose one: --without decoder mask_token, or --without classifier")
    model = convert(
        original / "weights.safetensors", original / "args.json", original / "head", without=["decoder", "mask_token"]
    )
    assert type(model).__name__ == "NeurIPTForSequenceClassification"
    model = convert(original / "weights.safetensors", original / "args.json", original / "dec", without=["classifier"])
    assert type(model).__name__ == "NeurIPTForPreTraining"
