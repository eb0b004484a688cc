"""
Fills `model_card.md` from what stands in a checkpoint folder and writes it there as `README.md`.

    python examples/write_model_card.py --folder runs/eegmat-0
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from huggingface_hub import ModelCard, ModelCardData
from safetensors import safe_open
from transformers import HfArgumentParser


TEMPLATE = Path(__file__).resolve().parents[1] / "model_card.md"


@dataclass
class CardArguments:
    folder: str = field(
        metadata={"help": "Checkpoint folder with config.json, weights and, if there is one, results.json."}
    )


def write_model_card(folder: str | Path) -> Path:
    """
    Writes `README.md` into a checkpoint folder, from its configuration, extractor, weights and result file.

    Raises:
        FileNotFoundError: where configuration, extractor or weights lack.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    extractor = json.loads((folder / "preprocessor_config.json").read_text())
    with safe_open(folder / "model.safetensors", "pt") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 (no mapping)
    parameters = sum(math.prod(shape) for shape in shapes)
    results_file = folder / "results.json"
    results = json.loads(results_file.read_text()) if results_file.is_file() else None
    names = {"model": "fine-tuned", "head_start": "frozen features + fit", "baseline": "classical baseline"}
    card = ModelCard.from_template(
        ModelCardData(),
        template_path=str(TEMPLATE),
        name=folder.resolve().name,
        architecture=config["architectures"][0],
        config=SimpleNamespace(**({"id2label": {}} | config)),
        extractor=extractor,
        parameters=f"{parameters:,}",
        task="eeg-classification" if config["architectures"][0].endswith("Classification") else "eeg-embedding",
        results=results,
        methods={} if results is None else {title: results[key] for key, title in names.items() if results.get(key)},
    )
    card.save(folder / "README.md")
    return folder / "README.md"


if __name__ == "__main__":
    (command,) = HfArgumentParser(CardArguments).parse_args_into_dataclasses()
    print(write_model_card(command.folder))
