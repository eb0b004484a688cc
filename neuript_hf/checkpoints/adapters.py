"""PEFT's adapters in a model: whether it has some, and the model without them."""

import copy
from pathlib import Path

from torch import nn

from ..modeling_neuript import NeurIPTPreTrainedModel


def base_model_of(model: nn.Module) -> NeurIPTPreTrainedModel:
    """The model that a `PeftModel` wraps, with the adapters inside; any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def has_adapters(model: nn.Module) -> bool:
    """Whether PEFT has put adapters into a model."""
    return any(hasattr(module, "base_layer") or hasattr(module, "modules_to_save") for module in model.modules())


def without_adapters(model: NeurIPTPreTrainedModel, merge: bool) -> NeurIPTPreTrainedModel:
    """A copy with plain weights, adapters merged or left out. Layers that were trained in full keep their training."""
    model = copy.deepcopy(model)
    if merge:
        for module in model.modules():
            if hasattr(module, "base_layer"):
                module.merge(safe_merge=True)
    for name, module in list(model.named_modules()):
        if hasattr(module, "modules_to_save"):
            model.set_submodule(name, module.modules_to_save[module.active_adapter])
        elif hasattr(module, "base_layer") and "base_layer" not in name:
            model.set_submodule(name, module.get_base_layer())
    model._hf_peft_config_loaded = False
    return model


def write_adapters(model: nn.Module, folder: Path) -> None:
    """
    Writes the active adapter where `from_pretrained` looks for it. PEFT puts one that is not called `default` into a
    folder of its own, and the base alone would be loaded.
    """
    if not hasattr(model, "get_base_model"):  # what from_pretrained loads
        model.save_pretrained(folder)
        return
    name = model.active_adapter
    model.save_pretrained(folder, selected_adapters=[name])
    if name != "default":
        for path in (folder / name).iterdir():
            path.replace(folder / path.name)
        (folder / name).rmdir()


def remove_adapters(folder: str | Path) -> None:
    """Removes what an earlier saving left: transformers would add these adapters to the weights."""
    for path in Path(folder).glob("adapter_*"):
        path.unlink()


__all__ = ["base_model_of", "has_adapters", "remove_adapters", "without_adapters", "write_adapters"]
