"""
Writes a checkpoint folder without weights: configuration, extractor, code, the settings of a training, and a card that
says that there are no weights yet.

    python research/offer_configuration.py --size base --settings research/settings/base.yaml --folder hub/neuript-base

Whoever has the machines trains it with `examples/pretrain.py` and these settings.
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
    settings: str = field(metadata={"help": "Settings file of pretrain.py; copied as recipe.yaml."})
    size: str = field(default="base", metadata={"help": "tiny, small or base."})


def offer_configuration(folder: str | Path, settings: str | Path, size: str) -> None:
    """
    Writes the folder.

    Args:
        folder: may exist, but must not have weights.
        settings: a settings file of `pretrain.py`.
        size: name of the configuration.

    Raises:
        ValueError: where the folder has weights, which the card would deny.
    """
    folder = Path(folder)
    if (folder / "model.safetensors").exists():
        raise ValueError(f"{folder} has weights. Expected a folder without weights: choose another, or remove them.")
    with torch.device("meta"):  # shapes alone
        model = NeurIPTForPreTraining(getattr(NeurIPTConfig, size)())
    model.save_pretrained(folder, state_dict={})
    NeurIPTFeatureExtractor(montage="as_recorded").save_pretrained(folder)
    shutil.copyfile(settings, folder / "recipe.yaml")
    write_model_card(folder)


if __name__ == "__main__":
    (command,) = HfArgumentParser(OfferArguments).parse_args_into_dataclasses()
    offer_configuration(**vars(command))
