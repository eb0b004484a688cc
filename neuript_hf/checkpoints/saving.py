"""Complete checkpoint folders: weights, feature extractor, code, and golden tensors for `verify`."""

from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoFeatureExtractor

from ..configuration_neuript import MODEL_CLASSES
from ..electrodes import TEN_TWENTY
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTPreTrainedModel
from ..pipeline_neuript import EEGPipeline
from .links import check_code


GOLDEN_NAME = "golden.safetensors"
GOLDEN_SECONDS = 1
# Largest difference that another processor or library version may cause in float32.
TOLERANCE = 1e-4
AUTO_CLASS = {name: getattr(transformers, auto_class) for auto_class, name in MODEL_CLASSES.items()}


def save_checkpoint(model: NeurIPTPreTrainedModel, extractor: NeurIPTFeatureExtractor, folder: str | Path) -> None:
    """
    Writes everything that a checkpoint needs to work where neuript_hf is not installed: `config.json`,
    `model.safetensors`, `preprocessor_config.json`, the code files, and `golden.safetensors`. That file has two
    windows of seeded noise, companded and one second long, and the model's outputs for them. Their channels are those
    of the feature extractor's montage, or 19 electrodes of the 10-20 system if the montage is `"as_recorded"`.
    """
    training = model.training
    model.eval()
    EEGPipeline(model, feature_extractor=extractor, task="eeg-embedding").save_pretrained(folder)
    features = extractor.channel_features(None if extractor.montage != "as_recorded" else TEN_TWENTY)
    samples = GOLDEN_SECONDS * extractor.sampling_rate
    channels = len(features["electrode_positions"])
    inputs = {
        "input_values": torch.randn(2, channels, samples, generator=torch.Generator().manual_seed(0)),
        "electrode_positions": torch.as_tensor(features["electrode_positions"]).float().repeat(2, 1, 1),
        "lobe_mask": torch.as_tensor(features["lobe_mask"]).bool().repeat(2, 1, 1),
    }
    golden = {f"input.{name}": tensor for name, tensor in inputs.items()}
    golden |= {f"output.{name}": tensor for name, tensor in golden_outputs(model, inputs).items()}
    save_file(golden, Path(folder) / GOLDEN_NAME)
    model.train(training)


@torch.no_grad()
def golden_outputs(model: NeurIPTPreTrainedModel, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors that `verify` compares: the hidden states of every scale, and logits or pooled vector."""
    device = next(model.parameters()).device
    outputs = model(**{name: tensor.to(device) for name, tensor in inputs.items()}, output_hidden_states=True)
    tensors = {f"hidden_states.{scale}": states for scale, states in enumerate(outputs.hidden_states)}
    for name in ("logits", "pooler_output"):
        if getattr(outputs, name, None) is not None:
            tensors[name] = getattr(outputs, name)
    return {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}


def verify(folder: str | Path) -> dict:
    """
    Loads a checkpoint, runs its stored golden input and compares with its stored output; prints and returns the
    verdict.

    Args:
        folder: a folder written by [`save_checkpoint`], of any of the three models.

    Returns:
        `{"passed": bool, "largest_difference": float, "problems": [str, ...]}`. It is a problem if a weight is
        missing, unexpected or of another shape, or if an output differs by more than 1e-4 (relative to its largest
        value, if that is above 1).

    Raises:
        FileNotFoundError: if the folder has no golden tensors.
        ValueError: if its code files are links that lead nowhere.
    """
    verdict = compare_with_golden(Path(folder))
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
            f"{folder} has no {GOLDEN_NAME}: only checkpoints saved with save_checkpoint can be verified."
        )
    check_code(folder)
    golden = load_file(folder / GOLDEN_NAME)
    inputs = {name.removeprefix("input."): tensor for name, tensor in golden.items() if name.startswith("input.")}
    expected = {name.removeprefix("output."): tensor for name, tensor in golden.items() if name.startswith("output.")}

    architecture = AutoConfig.from_pretrained(folder).architectures[0]
    model, loading = AUTO_CLASS[architecture].from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    AutoFeatureExtractor.from_pretrained(folder)
    # transformers does not report what one of the models leaves of another's checkpoint; here nothing may be left
    stored = {key for file in folder.glob("model*.safetensors") for key in load_file(file)}
    loading["unexpected_keys"] = stored - model.state_dict().keys()
    problems = [
        f"{kind.replace('_', ' ')}: {key}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for key in sorted(map(str, loading[kind]))
    ]
    largest = 0.0
    for name, tensor in golden_outputs(model.eval(), inputs).items():
        difference = (tensor - expected[name]).abs().max().item()
        scaled = difference / max(1.0, expected[name].abs().max().item())
        largest = max(largest, scaled)
        if not scaled <= TOLERANCE:  # also when it is NaN
            problems.append(f"{name} differs by {difference:.2e}")
    return {"passed": not problems, "largest_difference": largest, "problems": problems}


__all__ = ["save_checkpoint", "verify"]
