"""Checkpoints: saved, loaded with equal outputs, with the package and without, exported, verified."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import make_batch, small_config, write_edf
from hub_server import HubServer
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    TrainingArguments,
)

from neuript_hf import (
    EEGPipeline,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
    NeurIPTTrainer,
    save_checkpoint,
    verify,
)
from neuript_hf.__main__ import main
from neuript_hf.checkpoints.export import push_checkpoint
from neuript_hf.checkpoints.links import check_code, code_files, link_code
from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.electrodes import TEN_TWENTY


ROOT = Path(__file__).parents[1]
TINY = ROOT / "hub" / "neuript-tiny"


CODE = {path.name for path in code_files()}
HUB_FILES = {"config.json", "model.safetensors", "preprocessor_config.json", "golden.safetensors"} | CODE
HUB_FILES |= {"README.md", "training.json"}
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
    return outputs.pooler_output if "pooler_output" in outputs else outputs.logits


def test_folder_is_complete(checkpoint):
    _, _, folder = checkpoint
    assert {path.name for path in folder.iterdir()} == HUB_FILES
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig"} | {auto_class.__name__ for _, auto_class in CLASSES}
    assert "AutoFeatureExtractor" in json.loads((folder / "preprocessor_config.json").read_text())["auto_map"]


def test_auto_classes(checkpoint):
    """First way: the Auto classes, with neuript_hf imported. test_versions.py compares the parameters."""
    model, auto_class, folder = checkpoint
    loaded = auto_class.from_pretrained(folder)
    assert type(loaded) is type(model)
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
output, threads, *loads = sys.argv[1:]
torch.set_num_threads(int(threads))
batch = load_file(output + "/batch.safetensors")
for number, load in enumerate(loads):
    auto_class, place = load.split("=", 1)
    folder, _, revision = place.partition("@")
    options = {"trust_remote_code": True} | ({"revision": revision} if revision else {})
    model = getattr(transformers, auto_class).from_pretrained(folder, **options).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **options)
    outputs = model(**batch)
    main = outputs.pooler_output if "pooler_output" in outputs else outputs.logits
    features = extractor.channel_features(["Fp1-F7", "F7-T7"])
    results = {"main": main.detach(), "positions": torch.as_tensor(features["electrode_positions"]).float()}
    save_file(results, output + f"/{number}.safetensors")
    if auto_class == "AutoModelForSequenceClassification":
        pipe = transformers.pipeline("eeg-classification", model=folder, **options)
        names = extractor.channel_names
        rows = pipe(10 * torch.randn(len(names), 640).numpy(), sampling_rate=64, channel_names=names, unit="uV")
        assert [row["onset"] for row in rows] == [0.0, 4.0], rows
model.save_pretrained(output + "/again")
exec(open("card.py").read())
assert [row["onset"] for row in rows] == [0.0, 4.0], rows
"""


def run_without_the_package(output, loads, card, **environment) -> list[dict]:
    """
    What `AutoClass=PLACE` or `AutoClass=PLACE@REVISION` give there, loaded by `REMOTE_PROGRAM`, which then runs the
    lines of a card.
    """
    output.mkdir(exist_ok=True)
    (output / "card.py").write_text(card.partition("```python\n")[2].partition("```")[0])
    noise = 20 * np.random.default_rng(0).normal(size=(len(TEN_TWENTY), 2500))
    signals = [(name, 250, "uV", values) for name, values in zip(TEN_TWENTY, noise, strict=True)]
    write_edf(output / "recording.edf", signals)
    save_file(make_batch(), output / "batch.safetensors")
    # -I: neither the working directory nor PYTHONPATH; an editable install is hidden by the path entry below
    program = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in type(f).__name__.lower() "
        "and 'editable' not in getattr(f, '__name__', '').lower()]; "
        f"sys.path = [p for p in sys.path if p != {str(ROOT)!r}]\n" + REMOTE_PROGRAM
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(output), str(torch.get_num_threads()), *loads],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"} | environment,
        cwd=output,
    )
    assert done.returncode == 0, done.stderr
    return [load_file(output / f"{number}.safetensors") for number in range(len(loads))]


@pytest.mark.slow
def test_remote_code_without_the_package(tmp_path, monkeypatch):
    """
    Second way: `trust_remote_code=True` in a process that cannot import neuript_hf, from folders just saved, from
    `hub/neuript-tiny` as it lies in the repository, with links, and from two revisions of a repository on the Hub,
    each with its own code, where the lines of the card run as they are; then from the cache, without the Hub. All
    outputs are equal to the last bit. What an older version's code saves into a folder of links leaves the package
    alone.
    """
    loads = []
    for model_class, auto_class in CLASSES[1:]:
        folder = tmp_path / model_class.__name__
        save_checkpoint(model_class(small_config()).eval(), NeurIPTFeatureExtractor(), folder)
        loads.append((auto_class, folder))
    loads.append((AutoModel, TINY))
    older, linked = tmp_path / "older", tmp_path / "without" / "again"
    save_checkpoint(NeurIPTModel(small_config()).eval(), NeurIPTFeatureExtractor(), older)
    linked.mkdir(parents=True)
    link_code(linked)
    before = package_code()
    with HubServer() as hub:
        hub.take_over(monkeypatch, tmp_path / "cache")
        push_checkpoint(older, "org/neuript-tiny")
        older_code = (older / "modeling_neuript.py").read_bytes() + b"# an older version\n"
        HfApi().upload_file(path_or_fileobj=older_code, path_in_repo="modeling_neuript.py", repo_id="org/neuript-tiny")
        push_checkpoint(TINY, "org/neuript-tiny", revision="v1")
        environment = hub.environment(tmp_path / "home")
        found = run_without_the_package(
            tmp_path / "without",
            [f"{auto_class.__name__}={folder}" for auto_class, folder in loads]
            + ["AutoModel=org/neuript-tiny@v1", "AutoModel=org/neuript-tiny"],
            card := hub.files("org/neuript-tiny")["README.md"].decode(),
            **environment,
        )
    assert 'model="org/neuript-tiny"' in card
    environment["HF_HUB_OFFLINE"] = "1"
    found += run_without_the_package(tmp_path / "offline", ["AutoModel=org/neuript-tiny@v1"], card, **environment)

    loads += [(AutoModel, TINY), (AutoModel, older), (AutoModel, TINY)]
    own = NeurIPTFeatureExtractor().channel_features(["Fp1-F7", "F7-T7"])["electrode_positions"]
    for (auto_class, folder), remote in zip(loads, found, strict=True):
        assert torch.equal(remote["main"], main_output(auto_class.from_pretrained(folder).eval(), make_batch()))
        assert torch.equal(remote["positions"], torch.as_tensor(own).float())
    assert package_code() == before
    assert read_training_record(linked) == read_training_record(older)
    assert (linked / "modeling_neuript.py").read_text().endswith("# an older version\n")
    assert not any(path.is_symlink() for path in linked.iterdir())


def package_code():
    return {path.name: path.read_bytes() for path in code_files()}


SAVERS = {
    "model": lambda model, folder: model.save_pretrained(folder),
    "configuration": lambda model, folder: model.config.save_pretrained(folder),
    "feature extractor": lambda model, folder: NeurIPTFeatureExtractor().save_pretrained(folder),
    "pipeline": lambda model, folder: EEGPipeline(
        model, feature_extractor=NeurIPTFeatureExtractor(), task="eeg-classification"
    ).save_pretrained(folder),
    "checkpoint": lambda model, folder: save_checkpoint(model, NeurIPTFeatureExtractor(), folder),
    "trainer": lambda model, folder: NeurIPTTrainer(
        model, TrainingArguments(folder, use_cpu=True, report_to="none"), processing_class=NeurIPTFeatureExtractor()
    ).save_model(),
}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_saving_into_a_folder_of_links_leaves_the_package_alone(save, tmp_path):
    """The code there becomes files, all of it, and the package's stays as it was, also where a link leads nowhere."""
    before = package_code()
    link_code(tmp_path)
    (tmp_path / "losses.py").unlink()
    (tmp_path / "losses.py").symlink_to(tmp_path / "nothing" / "losses.py")
    save(NeurIPTForSequenceClassification(small_config()), tmp_path)
    assert package_code() == before
    assert not any(path.is_symlink() for path in tmp_path.iterdir())
    code = {path.name: path.read_bytes() for path in tmp_path.glob("*.py")}
    assert code.items() <= before.items()
    assert CODE - {"losses.py"} <= code.keys()


def test_export_is_complete(tmp_path, capsys):
    """All files of the checkpoint, real code, a card; what only its training needs stays behind."""
    source = shutil.copytree(TINY, tmp_path / "neuript-tiny", symlinks=True)
    (source / "training_args.bin").write_bytes(b"a pickle")
    (source / "checkpoint-5").mkdir()
    (source / "README.md").unlink()
    output = tmp_path / "exports" / "mine"
    assert main(["export-hub", str(source), str(output)]) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    kept = {"config.json", "model.safetensors", "preprocessor_config.json", "golden.safetensors", "training.json"}
    assert {path.name for path in output.iterdir()} == kept | CODE | {"README.md"}
    assert all((output / name).read_bytes() == (TINY / name).read_bytes() for name in kept)
    assert package_code() == {path.name: path.read_bytes() for path in output.glob("*.py") if not path.is_symlink()}
    assert "# mine" in (output / "README.md").read_text()
    assert [path.name for path in output.parent.iterdir()] == ["mine"]


def test_export_refuses(tmp_path, capsys):
    """Folders with something in them, what is not a checkpoint, and weights that fail their check; nothing is left."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").touch()
    assert main(["export-hub", str(TINY), str(full)]) == 1
    assert "must be a new or an empty folder" in capsys.readouterr().err
    assert main(["export-hub", str(full), str(tmp_path / "out")]) == 1
    assert "is not a checkpoint folder: it has no config.json" in capsys.readouterr().err
    broken = shutil.copytree(TINY, tmp_path / "broken")
    golden = load_file(TINY / "golden.safetensors")
    golden["output.logits"] += 1
    save_file(golden, broken / "golden.safetensors")
    assert main(["export-hub", str(broken), str(tmp_path / "out")]) == 1
    assert "fails its own check: logits differs by 1.00e+00" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "full"]


def test_links_are_made_anew(tmp_path):
    """Stale links go, text files that git writes in place of links become links, or copies where there are none."""
    (tmp_path / "gone.py").symlink_to("../../neuript_hf/gone.py")
    (tmp_path / "losses.py").write_text("../../neuript_hf/losses.py")
    with pytest.raises(ValueError, match="lead nowhere: gone.py, losses.py. .* `make hub`"):
        check_code(tmp_path)
    link_code(tmp_path)
    assert {path.resolve() for path in tmp_path.iterdir()} == set(code_files())
    assert all(path.is_symlink() and not path.readlink().is_absolute() for path in tmp_path.iterdir())
    check_code(tmp_path)
    with mock.patch.object(Path, "symlink_to", side_effect=OSError("a required privilege is not held")):
        link_code(tmp_path)
    assert not any(path.is_symlink() for path in tmp_path.iterdir())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == package_code()


def test_verify_points_to_make_hub(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "neuript-tiny", symlinks=True)
    with pytest.raises(ValueError, match="`make hub`"):
        verify(folder)


def test_verify_passes_after_moving(checkpoint, tmp_path, capsys):
    """Nothing in the folder points to where it was written."""
    moved = shutil.move(checkpoint[2], tmp_path / "elsewhere")
    assert str(tmp_path) not in (moved / "config.json").read_text()
    verdict = verify(moved)
    assert verdict["passed"] and verdict["problems"] == [] and verdict["largest_difference"] <= 1e-6
    assert "passed" in capsys.readouterr().out


def test_verify_fails_on_one_weight(checkpoint):
    """
    Changed in one number of 30,000, missing, or too many. The one too many is another model's, which loading an
    encoder leaves out without a word.
    """
    model, _, folder = checkpoint
    weights = load_file(folder / "model.safetensors")
    endings = ("layers.3.two_stage_attention.channel_stage.attention.v_proj.weight", "layers.5.merging.norm.bias")
    changed, missing = (next(name for name in weights if name.endswith(ending)) for ending in endings)
    extra = "classifier.extra" if isinstance(model, NeurIPTForPreTraining) else "decoder.7.norm.weight"
    number = weights[changed].clone()
    number[2, 3] += 0.5
    for state, problem in (
        (weights | {changed: number}, "differs by"),
        ({name: tensor for name, tensor in weights.items() if name != missing}, f"missing keys: {missing}"),
        (weights | {extra: torch.zeros(3)}, f"unexpected keys: {extra}"),
    ):
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        verdict = verify(folder)
        assert not verdict["passed"] and problem in verdict["problems"][0]
    assert len(verdict["problems"]) == 1  # all others are there


def test_verify_needs_golden_tensors(checkpoint):
    _, _, folder = checkpoint
    (folder / "golden.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="save_checkpoint"):
        verify(folder)


def test_encoder_of_a_pre_trained_checkpoint(tmp_path):
    """
    A pre-training checkpoint gives its encoder to `AutoModel` and to a classifier, weight by weight. The decoder that
    remains is not reported, and weights that are missing are.
    """
    model = NeurIPTForPreTraining(small_config())
    save_checkpoint(model, NeurIPTFeatureExtractor(), tmp_path)
    encoder, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    classifier, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=4, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    for loaded in (encoder, classifier.neuript):
        torch.testing.assert_close(dict(loaded.state_dict()), dict(model.neuript.state_dict()), atol=0, rtol=0)
