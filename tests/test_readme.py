"""The README's code runs as it stands there."""

import json
import re
from pathlib import Path

from conftest import small_config
from summarise import describe
from transformers.utils import logging

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForSequenceClassification, save_checkpoint
from neuript_hf.data.simulation import simulate_dataset


ROOT = Path(__file__).parents[1]


def test_python_blocks(tmp_path, monkeypatch, capsys):
    """Where `make demo` leaves checkpoint and recordings, there stand small ones."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub").symlink_to(ROOT / "hub")
    simulate_dataset(tmp_path / "demo" / "recordings", n_subjects=3, seed=0, n_trials=4)
    extractor = NeurIPTFeatureExtractor(montage=["C3", "Cz", "C4"])
    model = NeurIPTForSequenceClassification(small_config(num_labels=2, id2label={0: "left_hand", 1: "right_hand"}))
    save_checkpoint(model, extractor, tmp_path / "demo" / "checkpoint")
    logging.set_verbosity_error()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "_hand" in printed and "band-pass: 0.1 to 30 Hz" in printed and "torch.Size([2, 3360])" in printed


def test_the_table_of_checkpoints_is_that_of_the_result_files(monkeypatch):
    monkeypatch.chdir(ROOT)
    folders = [str(folder) for folder in Path("hub").iterdir()]
    assert describe(folders, "benchmarks/results") in Path("README.md").read_text()


def test_the_tables_of_fine_tuning_are_those_of_the_result_file():
    results = json.loads((ROOT / "benchmarks/results/compare_pretraining.json").read_text())
    assert results["table"] in (ROOT / "README.md").read_text()
