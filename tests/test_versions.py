"""
Saved and loaded, a model is the same bit for bit, also under another version of transformers (on the same processor
and with the same torch, which `make test-versions` sees to).

`make test-versions` runs this file under the oldest transformers that the package promises and under the newest that
pip finds. Each run leaves its checkpoints in a folder of its version below $NEURIPT_VERSIONS; a run that finds the
folder of another version there loads what that one wrote.
"""

import os
from pathlib import Path

import pytest
import torch
import transformers
from conftest import make_batch, small_config
from safetensors.torch import load_file, save_file
from transformers import set_seed

from neuript_hf import (
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
    save_checkpoint,
    verify,
)
from neuript_hf.checkpoints.golden import golden_outputs
from neuript_hf.modeling_neuript import NeurIPTPreTrainedModel


MODEL_CLASSES = (NeurIPTModel, NeurIPTForPreTraining, NeurIPTForSequenceClassification)
VERSIONS = Path(os.environ["NEURIPT_VERSIONS"]) if "NEURIPT_VERSIONS" in os.environ else None


def fixed_model(model_class: type[NeurIPTPreTrainedModel]) -> NeurIPTPreTrainedModel:
    """The same weights in every process and under every version, whatever the initialisation draws."""
    set_seed(0)
    model = model_class(small_config()).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
    return model


def write(model: NeurIPTPreTrainedModel, folder: Path) -> None:
    """A checkpoint, and beside it its parameters and outputs in plain safetensors, which no version renames."""
    save_checkpoint(model, NeurIPTFeatureExtractor(), folder)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, f"{folder}-parameters")
    save_file(golden_outputs(model, make_batch()), f"{folder}-outputs")


def load_the_same(model_class: type[NeurIPTPreTrainedModel], folder: Path) -> NeurIPTPreTrainedModel:
    """The model in the folder. It has the parameters and gives the outputs that `write` left there, bit for bit."""
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(dict(model.state_dict()), load_file(f"{folder}-parameters"), atol=0, rtol=0)
    expected = load_file(f"{folder}-outputs")
    torch.testing.assert_close(golden_outputs(model.eval(), make_batch()), expected, atol=0, rtol=0)
    verdict = verify(folder)
    assert verdict["passed"] and verdict["largest_difference"] == 0.0
    return model


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_saved_and_loaded(model_class, tmp_path):
    """Parameters, outputs and golden tensors come back bit for bit; a second save gives the same weights file."""
    folder = tmp_path / "checkpoint"
    write(fixed_model(model_class), folder)
    save_checkpoint(load_the_same(model_class, folder), NeurIPTFeatureExtractor(), tmp_path / "again")
    for name in ("model.safetensors", "golden.safetensors", "config.json", "preprocessor_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.skipif(VERSIONS is None, reason="`make test-versions` sets NEURIPT_VERSIONS")
@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_written_by_another_version(model_class):
    """Parameters, outputs and golden tensors of every version's checkpoint bit for bit; and leaves its own."""
    own = VERSIONS / transformers.__version__
    own.mkdir(parents=True, exist_ok=True)
    write(fixed_model(model_class), own / model_class.__name__)
    for version in VERSIONS.iterdir():
        folder = version / model_class.__name__
        if folder.is_dir():
            load_the_same(model_class, folder)
