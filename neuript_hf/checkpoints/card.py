"""
Writes the card of a checkpoint, its `README.md`, from the files of its folder and from results of its evaluations.

    python -m neuript_hf.checkpoints.card --folder runs/eegmat-0
    python -m neuript_hf.checkpoints.card --folder hub/neuript-tiny \
        --features research/results/neuript-tiny_features.json \
        --reconstruction research/results/neuript-tiny_reconstruction.json
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch
from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoConfig, HfArgumentParser

from ..data.targets import MAIN_SCORES, SCORE_TITLES
from ..link_safe_saving import signed
from .benchmarks import overlapping_benchmarks
from .golden import model_class_of
from .links import code_files
from .training_record import TrainingRecord, read_training_record, weights_of


TEMPLATE = Path(__file__).with_name("card_template.md")


@dataclass
class CardArguments:
    folder: str = field(
        metadata={"help": "Checkpoint folder: config.json, weights and, if any, training.json and results.json."}
    )
    features: str | None = field(default=None, metadata={"help": "Result file of research/evaluate_features.py."})
    reconstruction: str | None = field(
        default=None, metadata={"help": "Result file of research/evaluate_reconstruction.py."}
    )


# What the tasks of the evaluations are.
TASKS = {
    "arithmetic": "mental arithmetic against rest",
    "eyes": "eyes open against eyes closed",
    "epilepsy": "people with epilepsy against controls",
    "ssvep": "which of three flicker frequencies a person looks at",
    "listening": "listening to a situation against imagining it",
    "anxiety": "situations rated anxious against calm",
    "pictures": "first against second picture of a pair",
    "alcoholism": "alcohol use disorder against controls",
    "fists": "imagined left against right fist",
    "feet": "imagined fists against feet",
    "eyes_fsu": "eyes open against eyes closed, another device",
    "schizophrenia": "adolescents with symptoms of schizophrenia against controls",
    "adhd": "children with ADHD against controls",
}


def write_model_card(
    folder: str | Path, features: str | None = None, reconstruction: str | None = None, weights_elsewhere: bool = False
) -> Path:
    """
    Writes `README.md` into a checkpoint folder, from its configuration, feature extractor, weights, training record
    and results.

    Args:
        folder: the checkpoint.
        features: result file of `research/evaluate_features.py`.
        reconstruction: result file of `research/evaluate_reconstruction.py`.
        weights_elsewhere: whether there are weights although they are not in the folder.

    Raises:
        FileNotFoundError: if the folder has no configuration.
        ValueError: if the results are those of other weights.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    extractor_file = folder / "preprocessor_config.json"
    extractor = json.loads(extractor_file.read_text()) if extractor_file.is_file() else None
    architecture = config["architectures"][0]
    results_file = folder / "results.json"
    results = json.loads(results_file.read_text()) if results_file.is_file() else None
    # cards of the first task checkpoints are from before the other problem types
    problem_type = config.get("problem_type") or "single_label_classification"
    names = {"model": "fine-tuned", "head_start": "frozen features + fit", "baseline": "classical baseline"}
    record = read_training_record(folder)
    known, record = record is not None, record or TrainingRecord()
    card = ModelCard.from_template(
        ModelCardData(),
        template_path=str(TEMPLATE),
        name=folder.resolve().name,
        architecture=architecture,
        config=SimpleNamespace(**({"id2label": {}} | config)),
        problem_type=problem_type,
        main=MAIN_SCORES[problem_type],
        columns=SCORE_TITLES[problem_type],
        extractor=extractor,
        parameters=f"{count_parameters(folder):,}",
        has_weights=weights_elsewhere or any(folder.glob("model*.safetensors")),
        vector="embedding" if config.get("compact_embedding") else "pooler_output",
        task="eeg-classification" if architecture.endswith("Classification") else "eeg-embedding",
        known=known,
        gaps=record.gaps,
        stages=record.stages,
        subjects=record.subjects,
        overlaps=overlapping_benchmarks(record.dataset_names),
        features=features and read_results(features, folder),
        reconstruction=reconstruction and read_results(reconstruction, folder),
        tasks=TASKS,
        results=results,
        methods={} if results is None else {title: results[key] for key, title in names.items() if results.get(key)},
    )
    card.save(folder / "README.md")
    return folder / "README.md"


def count_parameters(folder: str | Path) -> int:
    """Parameters of a checkpoint's model, counted on shapes alone: the folder needs no weights."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        return model_class_of(config.architectures[0])(config).num_parameters()


def write_code_and_card(folder: Path, weights_elsewhere: bool = False) -> None:
    """
    What makes a checkpoint folder whole beside what has just been saved there: the code files that travel and, once
    there are weights, the card, signed so that one which is edited later is known.
    """
    for source in code_files():
        if not (folder / source.name).exists() or not (folder / source.name).samefile(source):
            shutil.copyfile(source, folder / source.name)
    if (folder / "config.json").is_file() and (weights_elsewhere or any(folder.glob("*.safetensors"))):
        card = write_model_card(folder, weights_elsewhere=weights_elsewhere)
        card.write_text(signed(card.read_text(encoding="utf-8")), encoding="utf-8")


def read_results(file: str | Path, folder: str | Path) -> dict:
    """
    A result file, checked to be of the weights in `folder`.

    Raises:
        ValueError: if it is of other weights.
    """
    results = json.loads(Path(file).read_text())
    if results["weights"]["sha256"] != weights_of(str(folder))["sha256"]:
        raise ValueError(f"{file} has results of other weights than those of {folder}. Evaluate these.")
    return results


__all__ = ["count_parameters", "read_results", "write_code_and_card", "write_model_card"]


if __name__ == "__main__":
    (command,) = HfArgumentParser(CardArguments).parse_args_into_dataclasses()
    print(write_model_card(**vars(command)))
