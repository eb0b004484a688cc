"""Checkpoints: saved, loaded three ways with equal outputs, pushed to a mocked Hub and back, verified."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import huggingface_hub
import pytest
import torch
from conftest import make_batch, small_config
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
)

from neuript_hf import (
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
    save_checkpoint,
    verify,
)


HUB_FILES = {
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "golden.safetensors",
    "configuration_neuript.py",
    "modeling_neuript.py",
    "feature_extraction_neuript.py",
    "array_files.py",
    "blockwise.py",
    "channel_names.py",
    "channels.py",
    "digitised.py",
    "embeddings.py",
    "file_headers.py",
    "filtering.py",
    "interpolation.py",
    "losses.py",
    "nets.py",
    "outputs.py",
    "pooling.py",
    "recordings.py",
    "signal_quality.py",
    "token_basis.py",
    "token_masks.py",
    "electrodes.py",
    "pipeline_neuript.py",
}
CLASSES = [
    (NeurIPTModel, AutoModel),
    (NeurIPTForPreTraining, AutoModelForPreTraining),
    (NeurIPTForSequenceClassification, AutoModelForSequenceClassification),
]


@pytest.fixture(params=CLASSES, ids=lambda classes: classes[0].__name__)
def checkpoint(request, tmp_path):
    model_class, auto_class = request.param
    model = model_class(small_config()).eval()
    save_checkpoint(model, NeurIPTFeatureExtractor(), tmp_path / "checkpoint")
    return model, auto_class, tmp_path / "checkpoint"


def main_output(model, batch):
    outputs = model(**batch)
    return outputs.pooler_output if isinstance(outputs.get("pooler_output"), torch.Tensor) else outputs.logits


def test_folder_is_complete(checkpoint):
    _, _, folder = checkpoint
    assert {path.name for path in folder.iterdir()} == HUB_FILES
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {
        "AutoConfig",
        "AutoModel",
        "AutoModelForPreTraining",
        "AutoModelForSequenceClassification",
    }
    assert "AutoFeatureExtractor" in json.loads((folder / "preprocessor_config.json").read_text())["auto_map"]


def test_auto_classes(checkpoint):
    """First way: the Auto classes, with neuript_hf imported. Parameters come back bit for bit."""
    model, auto_class, folder = checkpoint
    loaded, info = auto_class.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(loaded) is type(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(main_output(loaded.eval(), make_batch()), main_output(model, make_batch()))
    assert AutoConfig.from_pretrained(folder).to_dict() == loaded.config.to_dict()
    assert AutoFeatureExtractor.from_pretrained(folder).to_dict()["montage"] == "double_banana"


REMOTE_PROGRAM = """
import sys
from importlib.util import find_spec
import torch
import transformers
from safetensors.torch import load_file, save_file
assert find_spec("neuript_hf") is None, "the package must be out of reach here"
folder, auto_class, output = sys.argv[1:]
model = getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True).eval()
extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
batch = load_file(output + "/batch.safetensors")
outputs = model(**batch)
main = outputs.pooler_output if outputs.get("pooler_output") is not None else outputs.logits
features = extractor.channel_features()
results = {"main": main.detach(), "positions": torch.as_tensor(features["electrode_positions"]).float()}
save_file(results, output + "/remote.safetensors")
if auto_class == "AutoModelForSequenceClassification":
    pipe = transformers.pipeline("eeg-classification", model=folder, trust_remote_code=True)
    names = extractor.channel_names
    rows = pipe(10 * torch.randn(len(names), 640).numpy(), sampling_rate=64, channel_names=names, unit="uV")
    assert [row["onset"] for row in rows] == [0.0, 4.0], rows
model.save_pretrained(output + "/again")
"""


def test_remote_code_without_the_package(checkpoint, tmp_path):
    """Second way: `trust_remote_code=True` in a process that cannot import neuript_hf."""
    model, auto_class, folder = checkpoint
    batch = make_batch()
    save_file(batch, tmp_path / "batch.safetensors")
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    # -I: neither the working directory nor PYTHONPATH; an editable install is hidden by the path entry below
    program = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in type(f).__name__.lower() "
        "and 'editable' not in getattr(f, '__name__', '').lower()]; "
        f"sys.path = [p for p in sys.path if p != {str(Path(__file__).parents[1])!r}]\n" + REMOTE_PROGRAM
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(folder), auto_class.__name__, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    remote = load_file(tmp_path / "remote.safetensors")
    torch.testing.assert_close(remote["main"], main_output(model, batch), atol=1e-6, rtol=0)
    own = torch.as_tensor(NeurIPTFeatureExtractor().channel_features()["electrode_positions"]).float()
    assert torch.equal(remote["positions"], own)
    # saved again from remote code, the folder still carries its code
    assert {"modeling_neuript.py", "configuration_neuript.py"} <= {
        path.name for path in (tmp_path / "again").iterdir()
    }


class FakeHub:
    """Stands in for the Hub: keeps what is committed in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def create_repo(self, *args, **kwargs):
        return huggingface_hub.RepoUrl("https://huggingface.co/someone/neuript")

    def create_commit(self, repo_id, operations, **kwargs):
        self.folder.mkdir(exist_ok=True)
        for operation in operations:
            with operation.as_file() as content:
                (self.folder / operation.path_in_repo).write_bytes(content.read())
        return mock.Mock()


def test_push_to_hub_and_back(checkpoint, tmp_path):
    """Third way: `push_to_hub` of model and extractor into a mocked Hub, and loaded from what arrived there."""
    model, auto_class, _ = checkpoint
    hub = FakeHub(tmp_path / "arrived")
    with (
        mock.patch.object(huggingface_hub.HfApi, "create_repo", hub.create_repo),
        mock.patch.object(huggingface_hub.HfApi, "create_commit", lambda self, *a, **k: hub.create_commit(*a, **k)),
        mock.patch.object(huggingface_hub.ModelCard, "load", return_value=huggingface_hub.ModelCard("---\n---\n")),
    ):
        model.push_to_hub("someone/neuript")
        NeurIPTFeatureExtractor().push_to_hub("someone/neuript")
    arrived = {path.name for path in hub.folder.iterdir()}
    assert HUB_FILES - {"golden.safetensors", "pipeline_neuript.py"} <= arrived
    loaded = auto_class.from_pretrained(hub.folder).eval()
    assert torch.equal(main_output(loaded, make_batch()), main_output(model, make_batch()))
    assert AutoFeatureExtractor.from_pretrained(hub.folder).montage == "double_banana"


def test_verify_passes_and_prints(checkpoint, capsys):
    _, _, folder = checkpoint
    verdict = verify(folder)
    assert verdict["passed"] and verdict["problems"] == [] and verdict["largest_difference"] <= 1e-6
    assert "passed" in capsys.readouterr().out


def test_verify_fails_on_one_changed_weight(checkpoint):
    """One number in one tensor of 30,000."""
    _, _, folder = checkpoint
    state = load_file(folder / "model.safetensors")
    name = next(
        name for name in state if name.endswith("layers.3.two_stage_attention.channel_stage.attention.v_proj.weight")
    )
    state[name][2, 3] += 0.5
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    verdict = verify(folder)
    assert not verdict["passed"] and any("differs by" in problem for problem in verdict["problems"])


def test_verify_fails_on_one_missing_weight(checkpoint):
    _, _, folder = checkpoint
    state = load_file(folder / "model.safetensors")
    name = next(name for name in state if name.endswith("layers.5.two_stage_attention.time_stage.norm.bias"))
    del state[name]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    verdict = verify(folder)
    assert not verdict["passed"] and f"missing keys: {name}" in verdict["problems"]


def test_verify_needs_golden_tensors(checkpoint):
    _, _, folder = checkpoint
    (folder / "golden.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="save_checkpoint"):
        verify(folder)


def test_encoder_of_a_pre_trained_checkpoint(tmp_path):
    """A pre-training checkpoint gives its encoder to `AutoModel` and to a classifier, weight by weight."""
    model = NeurIPTForPreTraining(small_config())
    save_checkpoint(model, NeurIPTFeatureExtractor(), tmp_path)
    encoder, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    classifier, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=4, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    for name, tensor in model.neuript.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name])
        assert torch.equal(tensor, classifier.neuript.state_dict()[name])


def test_save_is_whole_after_moving(checkpoint, tmp_path):
    """Nothing in the folder points to where it was written."""
    model, auto_class, folder = checkpoint
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert str(tmp_path) not in (moved / "config.json").read_text()
    assert verify(moved)["passed"]
