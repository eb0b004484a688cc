"""
Fills `model_card.md` from what stands in a checkpoint folder and writes it there as `README.md`.

    python examples/write_model_card.py --folder runs/eegmat-0
    python examples/write_model_card.py --folder hub/neuript-tiny --features benchmarks/results/tiny_features.json \
        --reconstruction benchmarks/results/tiny_reconstruction.json
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch
from huggingface_hub import ModelCard, ModelCardData
from transformers import HfArgumentParser

import neuript_hf
from neuript_hf import NeurIPTConfig
from neuript_hf.checkpoints.training_record import TrainingRecord, overlapping_benchmarks, read_training_record


TEMPLATE = Path(__file__).resolve().parents[1] / "model_card.md"


@dataclass
class CardArguments:
    folder: str = field(
        metadata={"help": "Checkpoint folder: config.json, weights and, where they are, training.json, results.json."}
    )
    features: str | None = field(default=None, metadata={"help": "Result file of evaluate_features.py."})
    reconstruction: str | None = field(default=None, metadata={"help": "Result file of evaluate_reconstruction.py."})


# What stands above the tables of the evaluations.
FEATURES = "What its frozen features tell"
FEATURES_TEXT = (
    "Balanced accuracy on people that the weights have never seen: `pooler_output`, standardised, {fit}; the same "
    "windows for the same architecture at random weights ({random} seeds) and for band power without a network. "
    "Nothing was fitted or chosen on these people. Intervals are over people (bootstrap, 95 %), differences paired."
)
RECONSTRUCTION = "How well it fills gaps"
RECONSTRUCTION_TEXT = "People never seen; the fillers see the same samples. Intervals are over people."


def write_model_card(folder: str | Path, features: str | None = None, reconstruction: str | None = None) -> Path:
    """
    Writes `README.md` into a checkpoint folder, from its configuration, extractor, weights, record of training and
    result file.

    Args:
        folder: the checkpoint.
        features: result file of `evaluate_features.py`.
        reconstruction: result file of `evaluate_reconstruction.py`.

    Raises:
        FileNotFoundError: where configuration or extractor lack.
        ValueError: where results are those of other weights.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    extractor = json.loads((folder / "preprocessor_config.json").read_text())
    has_weights = (folder / "model.safetensors").is_file()
    parameters = count_parameters(folder, config["architectures"][0])
    results_file = folder / "results.json"
    results = json.loads(results_file.read_text()) if results_file.is_file() else None
    names = {"model": "fine-tuned", "head_start": "frozen features + fit", "baseline": "classical baseline"}
    record = read_training_record(folder) or TrainingRecord()
    tables = {}
    if features is not None:
        found = read_results(features, folder)
        text = FEATURES_TEXT.format(fit=found["arguments"]["fit"], random=found["arguments"]["random_seeds"])
        tables[FEATURES] = f"{text}\n\n{found['table']}"
    if reconstruction is not None:
        tables[RECONSTRUCTION] = f"{RECONSTRUCTION_TEXT}\n\n{read_results(reconstruction, folder)['table']}"
    card = ModelCard.from_template(
        ModelCardData(),
        template_path=str(TEMPLATE),
        name=folder.resolve().name,
        architecture=config["architectures"][0],
        config=SimpleNamespace(**({"id2label": {}} | config)),
        extractor=extractor,
        parameters=f"{parameters:,}",
        has_weights=has_weights,
        task="eeg-classification" if config["architectures"][0].endswith("Classification") else "eeg-embedding",
        stages=record.stages,
        subjects=record.subjects,
        overlaps=overlapping_benchmarks(record.dataset_names),
        tables=tables,
        results=results,
        methods={} if results is None else {title: results[key] for key, title in names.items() if results.get(key)},
    )
    card.save(folder / "README.md")
    return folder / "README.md"


def count_parameters(folder: Path, architecture: str) -> int:
    """Of a checkpoint's model; shapes alone are made, so also where there are no weights."""
    with torch.device("meta"):
        return getattr(neuript_hf, architecture)(NeurIPTConfig.from_pretrained(folder)).num_parameters()


def read_results(file: str, folder: Path) -> dict:
    """
    A result file of these weights.

    Raises:
        ValueError: where it tells of others.
    """
    results = json.loads(Path(file).read_text())
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if results["weights"]["sha256"] != weights:
        raise ValueError(f"{file} tells of other weights than those of {folder}. Evaluate these.")
    return results


if __name__ == "__main__":
    (command,) = HfArgumentParser(CardArguments).parse_args_into_dataclasses()
    print(write_model_card(**vars(command)))
