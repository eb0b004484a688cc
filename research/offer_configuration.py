"""
Writes a folder for a model that has no weights yet: configuration, extractor, code, the recipe of its training, and a
card that says so.

    python examples/offer_recipe.py --size base --recipe examples/configs/base.yaml --folder hub/neuript-base

Whoever has the hours and the machines trains it with `pretrain.py` and that recipe; `save_checkpoint` then puts the
weights into a folder of the same kind.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser

from neuript_hf import NeurIPTConfig, NeurIPTFeatureExtractor, NeurIPTForPreTraining
from neuript_hf.checkpoints.card import write_model_card


@dataclass
class OfferArguments:
    folder: str = field(metadata={"help": "Folder to write."})
    recipe: str = field(metadata={"help": "Settings file of pretrain.py; it travels as recipe.yaml."})
    size: str = field(default="base", metadata={"help": "tiny, small or base."})


def offer_recipe(folder: str | Path, recipe: str | Path, size: str) -> None:
    """
    Writes the folder.

    Args:
        folder: may exist, but must hold no weights.
        recipe: a settings file of `pretrain.py`.
        size: name of the configuration.

    Raises:
        ValueError: where the folder has weights: they would stand beside a card that denies them.
    """
    folder = Path(folder)
    if (folder / "model.safetensors").exists():
        raise ValueError(f"{folder} has weights. Expected a folder without: choose another, or take them away.")
    with torch.device("meta"):  # shapes alone
        model = NeurIPTForPreTraining(getattr(NeurIPTConfig, size)())
    model.save_pretrained(folder, state_dict={})
    NeurIPTFeatureExtractor(montage="as_recorded").save_pretrained(folder)
    shutil.copyfile(recipe, folder / "recipe.yaml")
    write_model_card(folder)


if __name__ == "__main__":
    (command,) = HfArgumentParser(OfferArguments).parse_args_into_dataclasses()
    offer_recipe(**vars(command))
