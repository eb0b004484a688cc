"""Complete checkpoint folders: weights, feature extractor, code, record, card, and golden tensors for `verify`."""

from pathlib import Path

from torch import nn
from transformers.utils import logging

from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from .adapters import base_model_of, has_adapters, remove_adapters, without_adapters, write_adapters
from .golden import save_golden


logger = logging.get_logger(__name__)


def save_checkpoint(
    model: nn.Module, extractor: NeurIPTFeatureExtractor, folder: str | Path, merge_adapters: bool = True
) -> None:
    """
    Writes everything that a checkpoint needs to work where neuript_hf is not installed: `config.json`,
    `model.safetensors`, `preprocessor_config.json`, the code files, `training.json`, a card, and `golden.safetensors`.
    That file has two windows of seeded noise, companded and one second long, and the model's outputs for them. Their
    channels are those of the feature extractor's montage, or 19 electrodes of the 10-20 system if the montage is
    `"as_recorded"`.

    Args:
        model: one of the three models, a head of your own (a subclass of `NeurIPTPreTrainedModel`), or any of them
            with PEFT's adapters (a `PeftModel`, or what `from_pretrained` loads from a folder with adapters).
        extractor: makes the model's windows.
        folder: where to write.
        merge_adapters: whether adapters become part of the weights. If not, they are written beside the weights that
            they adapt, and `from_pretrained` loads both from the folder. The model itself stays as it is. Of several
            adapters it is the active one. DoRA is always merged, with a warning, as transformers does not load it.

    Raises:
        ValueError: if the model expects other windows than the extractor makes.
    """
    adapted = base_model_of(model)
    extractor.refuse_other_windows(adapted.config)
    extractor.save_pretrained(folder)
    if not has_adapters(adapted):
        remove_adapters(folder)
        adapted.save_pretrained(folder)
        return
    if not merge_adapters and any("lora_magnitude_vector" in name for name, _ in adapted.named_parameters()):
        logger.warning("transformers does not load the magnitudes of DoRA, so the adapters are merged.")
        merge_adapters = True
    plain = without_adapters(adapted, merge_adapters)
    plain.save_pretrained(folder, save_original_format=False)  # that of the adapters' loading
    if merge_adapters:
        remove_adapters(folder)
    else:
        write_adapters(model, Path(folder))
        adapted.write_record(folder)
        save_golden(adapted, Path(folder))
        extractor.save_pretrained(folder)  # its card knows of the adapters


__all__ = ["save_checkpoint"]
