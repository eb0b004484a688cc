"""The folders of hub/: whole, of a size that a repository can carry, and trained on nobody whom they are tested on."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_edf
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel

from neuript_hf import verify
from neuript_hf.checkpoints.card import write_model_card
from neuript_hf.checkpoints.links import code_files
from neuript_hf.checkpoints.training_record import read_training_record, seen_people
from neuript_hf.electrodes import TEN_TWENTY


ROOT = Path(__file__).parents[1]
HUB, RESULTS = ROOT / "hub", ROOT / "research" / "results"
FOLDERS = sorted(path for path in HUB.glob("*") if path.is_dir())
WEIGHTS = [folder for folder in FOLDERS if (folder / "model.safetensors").exists()]
LARGEST_MEGABYTES = {"neuript-tiny": 12, "neuript-small": 60}


def named(folders):
    return pytest.mark.parametrize("folder", folders, ids=[folder.name for folder in folders])


@named(FOLDERS)
def test_a_folder_has_what_a_user_needs(folder):
    expected = {"config.json", "preprocessor_config.json", "README.md", "modeling_neuript.py"}
    if folder in WEIGHTS:
        expected |= {"golden.safetensors", "training.json"}
    assert expected <= {path.name for path in folder.iterdir()}
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    assert size < next((limit for name, limit in LARGEST_MEGABYTES.items() if folder.name.startswith(name)), 1)


@named(WEIGHTS)
def test_the_weights_give_their_golden_tensors(folder):
    assert verify(folder)["passed"]


@named(WEIGHTS)
def test_from_folder_to_embedding(folder):
    extractor, model = AutoFeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder)
    noise = torch.randn(3, 2500, generator=torch.Generator().manual_seed(0)).numpy() * 10
    names = ["C3", "Cz", "C4"]
    batch = extractor(noise, sampling_rate=250, channel_names=names, unit="uV", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**batch)
    size = 7 * 5 * model.config.hidden_size
    assert outputs.pooler_output.shape == (2, size) and outputs.pooler_output.isfinite().all()
    size = model.config.embedding_size if model.config.compact_embedding else size
    assert outputs.features.shape == (2, size) and outputs.features.isfinite().all()


@named(FOLDERS)
def test_the_card_is_that_of_the_results(folder, tmp_path):
    """As `make cards` writes it, from the folder and from its evaluations."""
    (tmp_path / folder.name).mkdir()
    for path in folder.iterdir():
        if path.name not in ("README.md", "evaluation.md"):
            (tmp_path / folder.name / path.name).symlink_to(path.resolve())
    results = {kind: RESULTS / f"{folder.name}_{kind}.json" for kind in ("features", "reconstruction")}
    results = {kind: file for kind, file in results.items() if file.is_file()}
    write_model_card(tmp_path / folder.name, **results)
    for name in ("README.md", "evaluation.md"):
        written, kept = tmp_path / folder.name / name, folder / name
        assert written.exists() is kept.exists(), "run `make cards`"
        assert not kept.exists() or written.read_text() == kept.read_text(), "run `make cards`"


@named(FOLDERS)
def test_the_card_has_the_usual_order_and_what_the_hub_reads(folder):
    """Purpose before limits, the licences apart, data once; scores that huggingface_hub reads back from the header."""
    text = (folder / "README.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    results = ["Results", "Data and training"] if folder in WEIGHTS else []
    assert headings == ["What it is not for", "Use", *results, "Limits", "Citation"]
    assert "\n\n\n" not in text and "{{" not in text and "{%" not in text
    assert len(ModelCard(text).text.splitlines()) < 200
    data, record = ModelCard(text).data, read_training_record(folder)
    assert data.license == "apache-2.0" and data.library_name == "neuript_hf"
    if folder not in WEIGHTS:
        assert data.datasets is None and data.eval_results is None
        return
    assert data.datasets == record.dataset_names
    assert "**Licences.** Weights and code: Apache-2.0. The data keep their own" in text
    assert text.count("| licence |") == 1
    tuned = (folder / "results.json").is_file()
    assert data.base_model == ("neuript-tiny" if tuned else None)
    assert data.model_name == folder.name and set(data.metrics) == {score.metric_type for score in data.eval_results}
    first = f"{data.eval_results[0].metric_value:.3f}"
    assert f" {first} |" in text and "never seen" in data.eval_results[0].dataset_name
    model_index_to_eval_results(eval_results_to_model_index(data.model_name, data.eval_results))  # each one its own
    if not tuned:
        features = json.loads((RESULTS / f"{folder.name}_features.json").read_text())
        assert len(data.eval_results) == len(features["tasks"])
    for page in re.findall(r"\]\((\w+\.md)#", text):
        assert (folder / page).is_file()


@named(FOLDERS)
def test_the_lines_of_the_card_run(folder, tmp_path, monkeypatch):
    """As somebody copies them; test_hub.py runs those of `neuript-tiny` without the package, from the Hub."""
    (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) <= 5
    noise = 20 * np.random.default_rng(0).normal(size=(len(TEN_TWENTY), 2500))
    signals = [(name, 250, "uV", values) for name, values in zip(TEN_TWENTY, noise, strict=True)]
    write_edf(tmp_path / "recording.edf", signals)
    monkeypatch.chdir(tmp_path)
    with torch.device("cpu" if folder in WEIGHTS else "meta"):  # the large one needs not be drawn
        exec(lines.replace(f'"{folder.name}"', repr(str(folder))), found := {})
    if folder in WEIGHTS:
        assert [row["onset"] for row in found["rows"]] == [0.0, 4.0]
    else:
        assert found["model"].config.hidden_size == 768


@pytest.mark.parametrize("kept", ["fine-tuned", "frozen features + fit"])
def test_the_card_says_whether_fine_tuning_helped(kept, tmp_path):
    """What was kept is in its table under its own name, and a fit alone is not called fine-tuned."""
    folder = shutil.copytree(HUB / "neuript-tiny-eyes", tmp_path / "eyes")
    results = json.loads((folder / "results.json").read_text())
    results["folds"] = {"frozen": [0.6, 0.7], "fine_tuned": [0.7, 0.8] if kept == "fine-tuned" else [0.5, 0.6]}
    (folder / "results.json").write_text(json.dumps(results | {"kept": kept}))
    card = write_model_card(folder).read_text()
    assert "By 2 folds over training people, frozen features and a fit had 0.650, fine-tuning" in card
    assert f"Kept: {kept}." in card and ("\n| fine-tuned |" in card) is (kept == "fine-tuned")
    results["model"]["balanced_accuracy"] = results["head_start"]["balanced_accuracy"]
    del results["folds"]
    (folder / "results.json").write_text(json.dumps(results))
    assert "Fine-tuning did not help" in write_model_card(folder).read_text()


@named(WEIGHTS)
def test_the_card_lists_what_was_seen(folder):
    card, record = (folder / "README.md").read_text(), read_training_record(folder)
    assert f"all {len(record.subjects)} people" in card
    for stage in record.stages:
        assert stage.command in card and all(dataset.licence in card for dataset in stage.datasets)


@named(WEIGHTS)
@pytest.mark.shared_data
def test_nobody_of_the_test_people_was_seen(folder, shared_data):
    with (shared_data / "manifest.csv").open() as file:
        unseen = {row["subject"] for row in csv.DictReader(file) if row["split"] in ("val", "test")}
    assert len(unseen) > 50
    assert not seen_people(read_training_record(folder), unseen)


@named(FOLDERS)
def test_the_code_beside_the_weights_is_the_packages(folder):
    """As `make hub` leaves it: a link to every file that travels, or its copy on systems without links."""
    assert {path.name for path in folder.glob("*.py")} == {path.name for path in code_files()}
    for source in code_files():
        path = folder / source.name
        if path.is_symlink():
            assert str(path.readlink()) == f"../../neuript_hf/{source.name}"
        assert path.read_bytes() == source.read_bytes()


def test_embedding_of_a_fixed_recording():
    """
    From an array through the feature extractor to vectors, as version 0.1.0 (commit 5be3034) made them from the same
    weights: `tests/fixtures/embedding.safetensors`.
    """
    expected = load_file(ROOT / "tests/fixtures/embedding.safetensors")
    signal = np.random.default_rng(0).normal(0, 0.5, (19, 3000)).cumsum(axis=1)
    batch = AutoFeatureExtractor.from_pretrained(HUB / "neuript-small")(
        signal, sampling_rate=250, channel_names=list(TEN_TWENTY), unit="uV", return_tensors="pt"
    )
    torch.testing.assert_close(batch["input_values"], expected["input_values"], atol=1e-5, rtol=0)
    with torch.no_grad():
        vectors = AutoModel.from_pretrained(HUB / "neuript-small").eval()(**batch).pooler_output
    torch.testing.assert_close(vectors, expected["pooler_output"], atol=1e-4, rtol=1e-5)
