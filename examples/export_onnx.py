"""
Exports a checkpoint to ONNX, to run it without torch, and checks the file against the checkpoint.

    python examples/export_onnx.py --model runs/hands --output hands.onnx
    python examples/export_onnx.py --model runs/hands --output hands.onnx --int8

The outputs are the `logits` of a classifier, or those of any other checkpoint's encoder: `last_hidden_state`,
`pooler_output` and, where the model has them, `connectivity` and the compact `embedding`. The number of windows is
free; the numbers of channels and samples are fixed, by default those of the checkpoint's feature extractor, or 19
electrodes of the 10-20 system if it takes channels as recorded. The file has no masks: windows must not be padded.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from transformers import AutoConfig, HfArgumentParser, PreTrainedModel

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForSequenceClassification, NeurIPTModel
from neuript_hf.checkpoints.adapters import without_adapters
from neuript_hf.electrodes import TEN_TWENTY
from neuript_hf.losses import problem_type_of


INPUTS = ("input_values", "electrode_positions", "lobe_mask")
TOLERANCE = 1e-4  # for each output, relative to its largest value if that is above 1


@dataclass
class ExportArguments:
    """The checkpoint, and the file to write."""

    model: str = field(metadata={"help": "Folder or Hub name of the checkpoint."})
    output: str = field(metadata={"help": "The ONNX file to write."})
    int8: bool = field(
        default=False, metadata={"help": "Also write OUTPUT with .int8 in its name, a file with 8-bit weights."}
    )
    channels: list[str] = field(
        default_factory=list,
        metadata={"help": "Electrodes or bipolar pairs; default: the extractor's montage, or 19 electrodes."},
    )
    samples: int | None = field(default=None, metadata={"help": "Samples of a window; default: the extractor's."})
    seed: int = field(default=0, metadata={"help": "Seed of the random windows of the check."})


class ByPlace(nn.Module):
    """The model with positional inputs and outputs, as the ONNX exporter needs them."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, input_values: Tensor, electrode_positions: Tensor, lobe_mask: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(
            input_values=input_values, electrode_positions=electrode_positions, lobe_mask=lobe_mask, return_dict=True
        )
        return tuple(outputs[name] for name in output_names(self.model))


def output_names(model: PreTrainedModel) -> list[str]:
    if not isinstance(model, NeurIPTModel):
        return ["logits"]
    names = ["last_hidden_state", "pooler_output"]
    if model.config.connectivity_bands is not None:
        names.append("connectivity")
    if model.config.compact_embedding:
        names.append("embedding")
    return names


def load(folder: str) -> PreTrainedModel:
    """
    The classifier if the checkpoint is one, else the encoder; in float32, for inference, with adapters merged.

    Raises:
        ValueError: if the checkpoint's head was never trained.
    """
    architectures = AutoConfig.from_pretrained(folder).architectures or []
    classifies = NeurIPTForSequenceClassification.__name__ in architectures
    model_class = NeurIPTForSequenceClassification if classifies else NeurIPTModel
    model = model_class.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager").eval()
    model.refuse_untrained()
    return without_adapters(model, merge=True)


def random_windows(
    extractor: NeurIPTFeatureExtractor, channels: list[str], samples: int | None, count: int, seed: int
) -> dict[str, Tensor]:
    """Noise at the montage's positions, with the variance of companded EEG."""
    features = extractor.channel_features(channels or (TEN_TWENTY if extractor.montage == "as_recorded" else None))
    samples = samples or round(extractor.window_seconds * extractor.sampling_rate)
    generator = torch.Generator().manual_seed(seed)
    places = {name: torch.from_numpy(np.stack([values] * count)) for name, values in features.items()}
    return {"input_values": torch.randn(count, len(features["lobe_mask"]), samples, generator=generator)} | places


def export(model: PreTrainedModel, windows: dict[str, Tensor], path: Path) -> None:
    """Writes the file. The windows, at least two, set its shapes; only their number is free."""
    program = torch.onnx.export(
        ByPlace(model).eval(),
        tuple(windows[name] for name in INPUTS),
        input_names=INPUTS,
        output_names=output_names(model),
        dynamic_shapes={name: {0: torch.export.Dim("windows", min=1, max=2**16)} for name in INPUTS},
        dynamo=True,
        verbose=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path)


def quantise(path: Path) -> Path:
    """Writes a second file beside the first, with 8-bit weights and dynamically quantised activations."""
    smaller = path.with_suffix(".int8" + path.suffix)
    quantize_dynamic(path, smaller, weight_type=QuantType.QInt8)
    return smaller


def run(path: Path, windows: dict[str, Tensor]) -> list[Tensor]:
    """The file's outputs for the windows."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    known = {entry.name for entry in session.get_inputs()}  # an encoder without lobe pooling has no lobe_mask
    return [
        torch.from_numpy(array) for array in session.run(None, {n: windows[n].numpy() for n in INPUTS if n in known})
    ]


def largest_error(model: PreTrainedModel, path: Path, windows: dict[str, Tensor]) -> float:
    """The largest difference between file and model, relative to the output's largest value if that is above 1."""
    with torch.no_grad():
        expected = ByPlace(model)(*(windows[name] for name in INPUTS))
    pairs = zip(run(path, windows), expected, strict=True)
    return max(((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)).item() for ours, theirs in pairs)


def cost_of_int8(model: PreTrainedModel, path: Path, windows: dict[str, Tensor]) -> dict[str, float]:
    """
    The effect of 8-bit weights on the last output (logits or embedding): `relative_error`, the norm of the difference
    over the norm of the output (of standardised numbers to predict), and for classifiers `same_class`, the share of
    windows with the same predicted class.
    """
    with torch.no_grad():
        expected = ByPlace(model)(*(windows[name] for name in INPUTS))[-1]
    rounded = run(path, windows)[-1]
    if model.config.target_mean is not None:
        mean, scale = torch.tensor([model.config.target_mean, model.config.target_scale])
        expected, rounded = (expected - mean) / scale, (rounded - mean) / scale
    cost = {"relative_error": ((rounded - expected).norm() / expected.norm()).item()}
    if output_names(model) == ["logits"] and problem_type_of(model.config) == "single_label_classification":
        cost["same_class"] = (rounded.argmax(-1) == expected.argmax(-1)).float().mean().item()
    return cost


def main():
    (arguments,) = HfArgumentParser(ExportArguments).parse_args_into_dataclasses()
    model, path = load(arguments.model), Path(arguments.output)
    extractor = NeurIPTFeatureExtractor.from_pretrained(arguments.model)

    def windows(count: int) -> dict[str, Tensor]:
        return random_windows(extractor, arguments.channels, arguments.samples, count, arguments.seed + count)

    export(model, windows(2), path)
    # with other numbers of windows than the one that was traced
    error = max(largest_error(model, path, windows(count)) for count in (1, 5))
    if error > TOLERANCE:
        raise SystemExit(f"{path} differs from {arguments.model} by {error:.1e}, more than {TOLERANCE:.0e}.")
    _, channels, samples = windows(1)["input_values"].shape
    print(f"{path}: {channels} channels, {samples} samples, {size(path)}, at most {error:.1e} from the checkpoint.")
    if arguments.int8:
        smaller = quantise(path)
        cost = cost_of_int8(model, smaller, windows(32))
        print(
            f"{smaller}: {size(smaller)}, error {cost['relative_error']:.1%} of the output's norm on random windows."
        )
        if "same_class" in cost:
            print(
                f"The most likely class stays the same for {cost['same_class']:.0%}. Measure it on your own windows."
            )
    print("done")


def size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
