"""
Turns a checkpoint of the authors' released code (docs/model.md section 15) into a folder that `from_pretrained` loads.

    python -m conversion.convert_neuript_to_hf --checkpoint model.pt --args args.json --output-dir folder

Every tensor of the checkpoint must find a place and every parameter of the model must be filled; otherwise nothing is
written and the names are listed. The configuration of the result carries the switches for the authors' behaviour
(docs/model.md section 16), so it computes what their code computes.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import HfArgumentParser

from neuript_hf import NeurIPTConfig, NeurIPTFeatureExtractor, NeurIPTForPreTraining, NeurIPTForSequenceClassification
from neuript_hf.checkpoints.saving import save_checkpoint
from neuript_hf.electrodes import MONTAGE_LOBES, MONTAGES
from neuript_hf.pooling import AUTHORS_GROUPS


# Name parts of the authors' layout and ours, applied in this order to the whole name.
RENAMES = (
    (r"^(module\.|_orig_mod\.)+", ""),
    (r"^enc_value_embedding\.linear\.", "neuript.embeddings.token."),
    (r"^encoder\.encode_blocks\.(\d+)\.merge_layer\.norm\.", r"neuript.layers.\1.merging.norm."),
    (r"^encoder\.encode_blocks\.(\d+)\.merge_layer\.linear_trans\.", r"neuript.layers.\1.merging.proj."),
    (r"^encoder\.encode_blocks\.(\d+)\.encode_layers\.0\.", r"neuript.layers.\1.two_stage_attention."),
    (r"^decoder\.decode_layers\.(\d+)\.self_attention\.", r"decoder.\1.two_stage_attention."),
    (r"^decoder\.decode_layers\.(\d+)\.MLP\.", r"decoder.\1.feed_forward."),
    (r"^decoder\.decode_layers\.(\d+)\.norm1_q\.", r"decoder.\1.query_norm."),
    (r"^decoder\.decode_layers\.(\d+)\.norm1_kv\.", r"decoder.\1.memory_norm."),
    (r"^decoder\.decode_layers\.(\d+)\.norm2\.", r"decoder.\1.feed_forward_norm."),
    (r"^decoder\.decode_layers\.(\d+)\.linear_pred\.", r"decoder.\1.prediction."),
    (r"^decoder\.decode_layers\.(\d+)\.", r"decoder.\1."),
    (r"\.norm1\.", ".time_stage.norm."),
    (r"\.norm2\.", ".time_stage.feed_forward_norm."),
    (r"\.norm3\.", ".channel_stage.norm."),
    (r"\.norm4\.", ".channel_stage.feed_forward_norm."),
    (r"\.time_attention\.", ".time_stage.attention."),
    (r"\.dim_attention\.", ".channel_stage.attention."),
    (r"\.(query|key|value|out)_projection\.", lambda match: f".{ATTENTION_LETTERS[match[1]]}_proj."),
    (r"\.MLP1\.", ".time_stage.feed_forward."),
    (r"\.MLP2\.", ".channel_stage.feed_forward."),
    (r"feed_forward\.gate\.", "feed_forward.router."),
    (r"feed_forward\.(shared_expert\.net\.)?0\.", lambda match: f"feed_forward.{shared(match)}up_proj."),
    (r"feed_forward\.(shared_expert\.net\.)?2\.", lambda match: f"feed_forward.{shared(match)}down_proj."),
    (r"^classification_head\.classification_layer\.", "classifier."),
)
ATTENTION_LETTERS = {"query": "q", "key": "k", "value": "v", "out": "o"}
BUFFERS = re.compile(r"(^|\.)(temporal_PE\.pe_t|spacial_PE\.pe_3d|dec_in)$")
EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.net\.([02]\.(?:weight|bias))$")
EXPERT_PARAMETERS = {"0.weight": "gate_up_proj", "0.bias": "gate_up_proj_bias"}
EXPERT_PARAMETERS |= {"2.weight": "down_proj", "2.bias": "down_proj_bias"}
# The double banana with the ear lobes, of which the authors' lists of 22 channels are.
DOUBLE_BANANA_WITH_EARS = [*MONTAGES["double_banana"][:8], "A1-T7", *MONTAGES["double_banana"][8:12], "T8-A2"]
DOUBLE_BANANA_WITH_EARS += MONTAGES["double_banana"][12:]
# Data set names of the launch arguments, letters and digits only, lower case.
MONTAGES_OF_DATA = dict.fromkeys(
    ("stage1", "mentalarithmetic", "mumtaz2016", "physionetp300", "tuab", "tuev"),
    ["double_banana", DOUBLE_BANANA_WITH_EARS],
) | {
    "bciciv2a": ["bcic_iv_2a"],
    "bciciv2b": ["bcic_iv_2b", "bcic_iv_2b_monopolar"],
    "seedv": ["seed_v"],
    "sleepedfx": ["sleep_edfx"],
}


def shared(match: re.Match) -> str:
    """Name part of the shared expert, where the matched block is one."""
    return "shared_expert." if match[1] else ""


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """
    Tensors by name, from safetensors or from a `.pt`/`.pth`/`.ckpt` file read with `weights_only=True`.

    Raises:
        ValueError: where the file holds anything but tensors by name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint at {path}.")
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a dictionary of tensors (a state_dict), but holds something else.")
    return state


def config_from_arguments(arguments: dict, state: dict[str, torch.Tensor]) -> NeurIPTConfig:
    """
    The configuration that goes with the authors' launch arguments, their behaviour switched on.

    Raises:
        ValueError: for arguments that this model has no counterpart of.
    """
    for name, expected in (("seg_len", 1), ("use_shared_expert", True)):
        if arguments.get(name, expected) != expected:
            raise ValueError(f"{name}={arguments[name]} has no counterpart here: only {name}={expected} is known.")
    hidden_size, num_layers = arguments["d_model"], arguments["e_layers"]
    head = {}
    if "classifier.weight" in state:
        kept = arguments["c_layers"]
        scales = [0, *range(num_layers - kept + 1, num_layers + 1)]
        head = {
            "num_labels": arguments["num_classes"],
            "num_lobes": state["classifier.weight"].shape[1] // (len(scales) * hidden_size),
            "pooled_scales": None if kept == num_layers else scales,
            "channel_groups": channel_groups_from_arguments(arguments),
        }
    return NeurIPTConfig(
        hidden_size=hidden_size,
        intermediate_size=arguments["d_ff"],
        num_hidden_layers=num_layers,
        num_attention_heads=arguments["n_heads"],
        merge_sizes=arguments["merge_layers"],
        num_experts=arguments["enc_expert"],
        decoder_num_experts=arguments["dec_expert"],
        cross_num_experts=arguments["cross_expert"],
        moe_intermediate_size=arguments["hidden_dim"],
        shared_expert_intermediate_size=arguments["hidden_dim_shared"],
        expert_top_k_ratio=arguments["top_k"],
        router_noise=arguments["noise_std"],
        router_importance_coef=arguments["w_importance"],
        hidden_dropout=arguments["dropout"],
        attention_dropout=arguments["dropout"],
        normalize_router_probs=False,
        expert_capacity_factor=1.0,
        balance_loss="squared_mass",
        strict_masking=False,
        **head,
    )


def channel_groups_from_arguments(arguments: dict) -> list[list[int]] | None:
    """
    The channel groups that the head averages, by `part` and number of channels; `None` if they are the lobes of the
    montage, which the extractor knows.

    Raises:
        ValueError: for a grouping that the authors' code does not have for this number of channels.
    """
    part, channels = arguments.get("part", "Functional"), arguments["data_dim"]
    known = AUTHORS_GROUPS.get(part, {})
    if channels not in known:
        groupings = [f"{name} for {', '.join(map(str, groups))} channels" for name, groups in AUTHORS_GROUPS.items()]
        raise ValueError(
            f"part={part!r} with data_dim={channels} is unknown: the authors' code groups {'; '.join(groupings)}."
        )
    montage = montage_from_arguments(arguments)
    if part == "Functional" and isinstance(montage, str) and montage in MONTAGE_LOBES:
        return None
    return known[channels]


def montage_from_arguments(arguments: dict) -> str | list[str]:
    """
    The montage of the data set that the launch arguments name, in the variant with their number of channels.

    Raises:
        ValueError: for a data set without a known montage, or another number of channels than its montages have.
    """
    montages = MONTAGES_OF_DATA.get(re.sub(r"[^a-z0-9]", "", arguments["data"].lower()))
    if montages is None:
        raise ValueError(f"No montage known for data={arguments['data']!r}; known: {', '.join(MONTAGES_OF_DATA)}.")
    sizes = {len(MONTAGES[name] if isinstance(name, str) else name): name for name in montages}
    if arguments["data_dim"] not in sizes:
        raise ValueError(
            f"data_dim={arguments['data_dim']}, but the montages of data={arguments['data']!r} have "
            f"{' or '.join(map(str, sizes))} channels."
        )
    return sizes[arguments["data_dim"]]


def convert_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    The authors' tensors under our names: renamed, single experts stacked to 3-D weights, buffers dropped.

    Raises:
        ValueError: where the experts of a block are not numbered 0, 1, 2 ... without a gap.
    """
    converted, experts = {}, {}
    for name, tensor in state.items():
        if BUFFERS.search(name):
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        if match := EXPERT.match(name):
            block, number, parameter = match.groups()
            experts.setdefault(f"{block}.{EXPERT_PARAMETERS[parameter]}", {})[int(number)] = tensor
        else:
            converted[name] = tensor
    for name, tensors in experts.items():
        if sorted(tensors) != list(range(len(tensors))):
            raise ValueError(
                f"The experts of {name} are numbered {sorted(tensors)}, expected 0 to {len(tensors) - 1}."
            )
        converted[name] = torch.stack([tensors[number] for number in range(len(tensors))])
    return converted


def convert_head(state: dict[str, torch.Tensor], config: NeurIPTConfig) -> None:
    """
    Brings the classification layer into our order, in place: the authors put the scales side by side as 0, 6, 5 .. 1,
    and give two classes one logit z, which becomes the pair (0, z).
    """
    weight, bias = state["classifier.weight"], state["classifier.bias"]
    scales = config.head_scales
    theirs = [0, *sorted(scales[1:], reverse=True)]
    columns = weight.unflatten(1, (len(scales), -1))
    weight = columns[:, [theirs.index(scale) for scale in scales]].flatten(1)
    if config.num_labels == 2 and len(weight) == 1:
        weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
    state["classifier.weight"], state["classifier.bias"] = weight, bias


def convert(
    checkpoint: str | Path, arguments_file: str | Path, output_dir: str | Path, without: list[str] | None = None
) -> NeurIPTForPreTraining | NeurIPTForSequenceClassification:
    """
    Reads a checkpoint of the authors' and writes model, extractor and golden tensors to `output_dir`.

    Args:
        checkpoint: safetensors or `.pt` file with the authors' parameter names.
        arguments_file: JSON file with their launch arguments.
        output_dir: folder to write.
        without: first name parts to leave out on purpose, such as `"decoder"` and `"mask_token"` where a checkpoint
            holds decoder and head together.

    Raises:
        ValueError: where tensors are left over, parameters stay empty, or shapes differ, each by name.
    """
    arguments = json.loads(Path(arguments_file).read_text())
    state = convert_state(read_checkpoint(Path(checkpoint)))
    state = {name: tensor for name, tensor in state.items() if name.split(".")[0] not in (without or [])}
    with_head, with_decoder = "classifier.weight" in state, any(name.startswith("decoder.") for name in state)
    if with_head and with_decoder:
        raise ValueError(
            "The checkpoint holds a decoder and a classification head. Choose one: --without decoder mask_token, or "
            "--without classifier."
        )
    config = config_from_arguments(arguments, state)
    if with_head:
        convert_head(state, config)
    extractor = NeurIPTFeatureExtractor(
        montage=montage_from_arguments(arguments),
        coordinate_frame="montage",
        window_seconds=arguments["total_len"] / 64,
    )
    model = (NeurIPTForSequenceClassification if with_head else NeurIPTForPreTraining)(config)

    own = model.state_dict()
    problems = [f"left over: {name}" for name in sorted(state.keys() - own.keys())]
    problems += [f"not filled: {name}" for name in sorted(own.keys() - state.keys())]
    problems += [
        f"wrong shape: {name} {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
        for name in sorted(state.keys() & own.keys())
        if state[name].shape != own[name].shape
    ]
    if problems:
        raise ValueError("The checkpoint does not fit its launch arguments:\n  " + "\n  ".join(problems))
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    model.keep_record(None)  # it is not known whom the authors' weights have seen
    save_checkpoint(model, extractor, output_dir)
    return model


@dataclass
class ConversionArguments:
    checkpoint: str = field(metadata={"help": "The authors' weights: .safetensors, .pt, .pth or .ckpt."})
    args: str = field(metadata={"help": "JSON file with the authors' launch arguments."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    without: list[str] = field(
        default_factory=list, metadata={"help": "Parts to leave out: decoder, mask_token or classifier."}
    )


if __name__ == "__main__":
    (command,) = HfArgumentParser(ConversionArguments).parse_args_into_dataclasses()
    model = convert(command.checkpoint, command.args, command.output_dir, command.without)
    print(f"{type(model).__name__} with {model.num_parameters():,} parameters written to {command.output_dir}.")
