"""Golden tensors: an input, and the output that a checkpoint's weights gave when it was saved. `verify` compares."""

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoFeatureExtractor
from transformers.utils import logging

from ..data.atomic import atomic_write
from ..electrodes import TEN_TWENTY
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTPreTrainedModel
from .adapters import has_adapters
from .links import check_code


logger = logging.get_logger(__name__)

GOLDEN_NAME = "golden.safetensors"
GOLDEN_SECONDS = 1
# Largest difference that another processor or library version may cause in float32.
TOLERANCE = 1e-4
EXTRACTOR_NAME = "preprocessor_config.json"
NO_EXTRACTOR = (
    f"there is no {EXTRACTOR_NAME}, so no pipeline can load the folder. Write the feature extractor of the training "
    "into it with extractor.save_pretrained(folder)"
)


def has_extractor(folder: Path) -> bool:
    """Whether a checkpoint folder has a feature extractor."""
    return (folder / EXTRACTOR_NAME).is_file()


def save_golden(model: NeurIPTPreTrainedModel, folder: Path) -> None:
    """
    Writes an input, and the model's output for it, computed in float32. A model that needs other inputs than a window
    gets none, with a warning; it is saved all the same.
    """
    (folder / GOLDEN_NAME).unlink(missing_ok=True)
    if any(weight.is_meta for weight in model.parameters()):
        return
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    if has_extractor(folder):
        extractor = NeurIPTFeatureExtractor.from_pretrained(folder)
    features = extractor.channel_features(None if extractor.montage != "as_recorded" else TEN_TWENTY)
    samples = GOLDEN_SECONDS * extractor.sampling_rate
    channels = len(features["electrode_positions"])
    inputs = {
        "input_values": torch.randn(2, channels, samples, generator=torch.Generator().manual_seed(0)),
        "electrode_positions": torch.as_tensor(features["electrode_positions"]).float().repeat(2, 1, 1),
        "lobe_mask": torch.as_tensor(features["lobe_mask"]).bool().repeat(2, 1, 1),
    }
    try:
        outputs = golden_outputs(model, inputs)
    except Exception as error:
        logger.warning(
            f"{folder} has no {GOLDEN_NAME}, so verify cannot check it: {type(model).__name__} does not run on "
            f"a window of {channels} channels alone ({type(error).__name__}: {error})."
        )
        return
    golden = {f"input.{name}": tensor for name, tensor in inputs.items()}
    golden |= {f"output.{name}": tensor for name, tensor in outputs.items()}
    with atomic_write(folder / GOLDEN_NAME) as partial:
        save_file(golden, partial)


@torch.no_grad()
def golden_outputs(model: NeurIPTPreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """
    The tensors that `verify` compares, whatever `forward` returns: a tensor (`output`), a tuple (`0`, `1`, ...), a
    dictionary or an output of transformers, by name. Hidden states are among them where the model gives them.
    """
    if model.dtype != torch.float32:
        model = copy.deepcopy(model).float()
    training = model.training
    model.eval()
    inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()} | {"output_hidden_states": True}
    taken = inspect.signature(model.forward).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        inputs = {name: value for name, value in inputs.items() if name in taken}
    try:
        outputs = model(**inputs)
    finally:
        model.train(training)
    return dict(tensors_of(outputs))


def tensors_of(outputs: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """Every tensor of an output, with its place in it as name."""
    if isinstance(outputs, Tensor):
        return [(name or "output", outputs.float().cpu().clone(memory_format=torch.contiguous_format))]
    if isinstance(outputs, Mapping):
        parts = outputs.items()
    elif isinstance(outputs, tuple | list):
        parts = enumerate(outputs)
    else:
        return []
    return [found for key, part in parts for found in tensors_of(part, f"{name}.{key}" if name else str(key))]


def model_class_of(architecture: str) -> type[NeurIPTPreTrainedModel]:
    """
    The class of a checkpoint: one of the three models, or a head of the user's own that this process has defined.

    Raises:
        ValueError: if there is no such class.
    """
    found, waiting = {}, [NeurIPTPreTrainedModel]
    while waiting:
        model_class = waiting.pop(0)
        found[model_class.__name__] = model_class
        waiting += model_class.__subclasses__()
    if architecture not in found:
        raise ValueError(
            f"The checkpoint's class {architecture} is not known here. Expected one of {', '.join(sorted(found))}; "
            "import or define the class first."
        )
    return found[architecture]


def verify(folder: str | Path) -> dict:
    """
    Loads a checkpoint, runs its stored golden input and compares with its stored output; prints and returns the
    verdict.

    Args:
        folder: a folder written by [`save_checkpoint`] or `save_pretrained`, of any of the three models or of a head
            of your own that is defined, with or without adapters.

    Returns:
        `{"passed": bool, "largest_difference": float, "problems": [str, ...]}`. A model fails if a weight is
        missing, unexpected or of another shape, or if an output is missing or differs by more than 1e-4 (relative to
        its largest value, if that is above 1). A folder without a feature extractor is a problem, too: no pipeline
        can load it. The model in it may pass all the same.

    Raises:
        FileNotFoundError: if the folder has no golden tensors.
        ValueError: if its code files are links that lead nowhere, or its class is not known.
    """
    verdict = compare_with_golden(Path(folder))
    if not has_extractor(Path(folder)):
        verdict["problems"].append(NO_EXTRACTOR)
    print(
        f"{folder}: {'passed' if verdict['passed'] else 'FAILED'}, largest difference "
        f"{verdict['largest_difference']:.1e}",
        *verdict["problems"],
        sep="\n  ",
    )
    return verdict


def compare_with_golden(folder: Path) -> dict:
    """As [`verify`], but prints nothing."""
    if not (folder / GOLDEN_NAME).is_file():
        raise FileNotFoundError(
            f"{folder} has no {GOLDEN_NAME}: only checkpoints saved with save_checkpoint or save_pretrained, by a "
            "single process, can be verified."
        )
    check_code(folder)
    golden = load_file(folder / GOLDEN_NAME)
    inputs = {name.removeprefix("input."): tensor for name, tensor in golden.items() if name.startswith("input.")}
    expected = {name.removeprefix("output."): tensor for name, tensor in golden.items() if name.startswith("output.")}

    model_class = model_class_of(AutoConfig.from_pretrained(folder).architectures[0])
    model, loading = model_class.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if has_extractor(folder):
        AutoFeatureExtractor.from_pretrained(folder)
    if not has_adapters(model):
        # transformers does not report what one of the models leaves of another's checkpoint; nothing may be left
        stored = {key for file in folder.glob("model*.safetensors") for key in load_file(file)}
        loading["unexpected_keys"] = stored - model.state_dict().keys()
    problems = [
        f"{kind.replace('_', ' ')}: {key}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for key in sorted(map(str, loading[kind]))
    ]
    largest = 0.0
    found = golden_outputs(model, inputs)
    problems += [f"{name} is missing from the output" for name in sorted(expected.keys() - found.keys())]
    for name in sorted(expected.keys() & found.keys()):
        if found[name].shape != expected[name].shape:
            problems.append(f"{name} has shape {list(found[name].shape)}, had {list(expected[name].shape)}")
            continue
        difference = (found[name] - expected[name]).abs().max().item()
        scaled = difference / max(1.0, expected[name].abs().max().item())
        largest = max(largest, scaled)
        if not scaled <= TOLERANCE:  # also when it is NaN
            problems.append(f"{name} differs by {difference:.2e}")
    return {"passed": not problems, "largest_difference": largest, "problems": problems}


__all__ = ["GOLDEN_NAME", "compare_with_golden", "golden_outputs", "model_class_of", "save_golden", "verify"]
