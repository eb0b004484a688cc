"""
What a model knows of its weights, from one saving to the next: whom they have seen (`training.json`), and which of
them nothing has trained.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import cached_file


RECORD_FILE = "training.json"
CHANGED = "The weights were changed by a program that left no record of the people it trained on."
UNRECORDED = "Some of the weights came without a record of the people they have seen."
# As `config.json` names them for `trust_remote_code=True`.
PIPELINES = {
    "eeg-embedding": {"impl": "pipeline_neuript.EEGPipeline", "pt": ["AutoModel"]},
    "eeg-classification": {"impl": "pipeline_neuript.EEGPipeline", "pt": ["AutoModelForSequenceClassification"]},
}
# A weight is compared in its own type: a model in half precision has the weights that it had before.
TYPES = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


class WeightsHistory:
    """
    For `PreTrainedModel`: the training record and the untrained weights are read by `from_pretrained`, kept with the
    model and written by `save_pretrained`, and so by all that calls it.

    A model within the model, such as the encoder of a classifier, keeps the history of its own weights, so that an
    encoder that was loaded into another model brings its history along.
    """

    _record: dict | None = None  # `None`: nobody knows
    _weights: dict[str, dict | None] | None = None  # what the record is about; `None`: whatever the weights are now
    _untrained: dict[str, dict | None] = {}

    def post_init(self) -> None:
        super().post_init()
        if not any(weight.is_meta for weight in self.parameters()):  # from_pretrained knows more
            self._record, self._weights = {"stages": []}, self._checksums()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; the model also knows its [`training_record`] and its [`untrained_weights`]."""
        options = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
        options = {name: kwargs[name] for name in options if name in kwargs}
        adapter = kwargs.get("adapter_kwargs") or {}
        if "_adapter_model_path" in adapter:  # from an Auto class: the other arguments are about the adapters' base
            options |= {"revision": adapter.get("revision"), "subfolder": adapter.get("subfolder", "")}
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._remember_untrained()
        record = None
        if pretrained_model_name_or_path is not None:
            options["_raise_exceptions_for_connection_errors"] = False
            record = read_record(adapter.get("_adapter_model_path") or pretrained_model_name_or_path, **options)
            if record is None and getattr(model, "_hf_peft_config_loaded", False):
                record = join_records([read_record(model.name_or_path), None])
        model.keep_record(record)
        return loaded

    @property
    def training_record(self) -> dict | None:
        """
        What `training.json` will say: `{"stages": [...]}`, one for each training, with `"gaps"`, a list of sentences,
        if something is not known. `None` if nothing is. Weights that were made at random have seen nobody: no stages.
        """
        return join_records(part._own_record() for part in self._parts())

    def keep_record(self, record: dict | None, watched: bool = True) -> None:
        """
        Gives the weights, as they are now, a record. If they are other weights when it is asked for, it gets a gap,
        unless they are not `watched`: a program that trains them says itself what it does.
        """
        for part in self._parts():
            part._record = record
            part._weights = part._checksums() if watched else None

    @property
    def untrained_weights(self) -> list[str]:
        """Weights that the checkpoint did not have and that still are as they were drawn at random."""
        names = []
        for prefix, part in self.named_modules():
            if isinstance(part, WeightsHistory) and part._untrained:
                now = part._checksums()
                same = {name for name, start in part._untrained.items() if name in now and alike(now[name], start)}
                # where a layer's weight was trained, its bias may still be 0
                trained = {name.rpartition(".")[0] for name in part._untrained.keys() - same}
                same = sorted(name for name in same if name.rpartition(".")[0] not in trained)
                names += [f"{prefix}.{name}" if prefix else name for name in same]
        return names

    def keep_untrained(self, names: Iterable[str]) -> None:
        """Says that of this model's [`untrained_weights`] these still are untrained, as they are now."""
        names = set(names)
        for prefix, part in self.named_modules():
            if isinstance(part, WeightsHistory) and part._untrained:
                now = part._checksums()
                kept = [name for name in part._untrained if (f"{prefix}.{name}" if prefix else name) in names]
                part._untrained = part._untrained | {name: now[name] for name in kept}

    def refuse_untrained(self) -> None:
        """
        Raises:
            ValueError: if the checkpoint that was loaded had no weights for some part of the model and nothing has
                trained this part since: its answers would be random.
        """
        if names := self.untrained_weights:
            few = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            expected = (
                "Expected a checkpoint that was trained for this task. Train this one first, with `python "
                "examples/finetune.py --model CHECKPOINT --data manifest.csv --output_dir FOLDER` or with "
                "NeurIPTTrainer, and load what was saved; or use the eeg-embedding pipeline, which needs no head."
            )
            if self.base_model.untrained_weights:
                expected = (
                    "Expected a checkpoint with a whole encoder. Load it with the configuration that it was saved "
                    "with, or with compact_embedding=False: a compact embedding is of one choice of lobes, pooling "
                    "and scales. Or train it first, with `python examples/pretrain.py SETTINGS --weights CHECKPOINT`."
                )
            raise ValueError(
                f"The checkpoint {self.name_or_path or self.config.name_or_path} has no trained weights for {few} of "
                f"{type(self).__name__}: they are random, and so would be the answers. {expected}"
            )

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any):
        """
        As in transformers. Beside weights and configuration it writes `training.json`, if anything is known, and,
        where the package is installed, golden tensors and what else makes a folder complete.

        Raises:
            ValueError: if PEFT's adapters sit in the model, whose weights then have names that no model loads.
        """
        adapters = getattr(self, "_hf_peft_config_loaded", False)
        if not adapters and any(name != canonical(name) for name, _ in self.named_parameters()):
            raise ValueError(
                f"{type(self).__name__} carries PEFT's adapters. Expected plain weights. Save it with "
                "save_checkpoint(model, extractor, folder), which merges the adapters or writes them beside the base, "
                "or merge them first: model.merge_and_unload()."
            )
        self.config.untrained_weights = self.untrained_weights or None
        before, self.config.custom_pipelines = getattr(self.config, "custom_pipelines", None), PIPELINES
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            self.config.custom_pipelines = before

    def _complete(self, folder: Path, **saving: Any) -> None:
        self.write_record(folder)
        if saving.get("state_dict") is None:  # else the weights may be spread over processes
            write_golden(self, folder)
        super()._complete(folder, **saving)

    def write_record(self, folder: str | os.PathLike) -> None:
        """Writes `training.json`. Without a record there must be none: that of other weights would be wrong."""
        path, record = Path(folder) / RECORD_FILE, self.training_record
        if record is None:
            path.unlink(missing_ok=True)
            return
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)

    def _parts(self) -> list["WeightsHistory"]:
        return [part for part in self.modules() if isinstance(part, WeightsHistory)]

    def _own_weights(self) -> dict[str, Tensor]:
        """The weights of no model within this one, by their names without PEFT's wrappers."""
        within = tuple(f"{name}." for name, part in self.named_modules() if name and isinstance(part, WeightsHistory))
        return {canonical(name): weight for name, weight in self.named_parameters() if not name.startswith(within)}

    def _checksums(self) -> dict[str, dict | None]:
        return {name: checksum(weight) for name, weight in self._own_weights().items()}

    def _own_record(self) -> dict | None:
        if self._record is None or self._weights is None:
            return self._record
        now, start = self._checksums(), self._weights
        same = all(name in now and alike(now[name], start[name]) for name in start)
        if same and without_effect({name: now[name] for name in now.keys() - start.keys()}):
            return self._record
        return _joined(self._record, {"gaps": [CHANGED]})

    def _remember_untrained(self) -> None:
        """After loading: what `_init_weights` drew, and what was untrained when the checkpoint was saved."""
        saved = {without_prefix(self, name) for name in self.config.untrained_weights or []}
        for prefix, part in self.named_modules():
            if isinstance(part, WeightsHistory):
                names = {
                    name
                    for name, weight in part._own_weights().items()
                    if getattr(weight, "_drawn_at_random", False)
                    or without_prefix(self, f"{prefix}.{name}" if prefix else name) in saved
                }
                now = part._checksums() if names else {}
                part._untrained = {name: now[name] for name in names if name in now}


def mark_drawn(module: torch.nn.Module) -> None:
    """For `_init_weights`: marks the weights that no checkpoint has filled and that are now drawn at random."""
    for weight in module.parameters(recurse=False):
        weight._drawn_at_random = not getattr(weight, "_is_hf_initialized", False)


def canonical(name: str) -> str:
    """A weight's name in the model without PEFT's adapters. A trained copy has the name of what it replaces."""
    return re.sub(r"\.(base_layer|original_module|modules_to_save\.[^.]+)\.", ".", name)


def without_prefix(model: torch.nn.Module, name: str) -> str:
    """A weight's name, the same in the encoder and in the models around it."""
    return name.removeprefix(f"{model.base_model_prefix}.")


@torch.no_grad()
def checksum(weight: Tensor) -> dict[torch.dtype, tuple[int, bool]] | None:
    """
    For each type that a model may be cast to, the sum of the weight's bits in it, and whether the type holds the
    weight exactly. `None` if the weight is elsewhere (offloaded); then nothing trains it.
    """
    if weight.is_meta:
        return None
    cast = {kind: weight.to(kind) for kind in TYPES}
    return {
        kind: (int(values.view(TYPES[kind]).sum(dtype=torch.int64)), torch.equal(values.to(weight.dtype), weight))
        for kind, values in cast.items()
    }


def alike(now: dict | None, start: dict | None) -> bool:
    """Whether a weight is the one that it was, or what remained of it in a shorter type."""
    if now is None or start is None:
        return True
    return any(exact and total == start[kind][0] for kind, (total, exact) in now.items())


def without_effect(adapters: dict[str, dict | None]) -> bool:
    """Whether weights that were added are LoRA's as they begin: one of the two factors in each layer is still zero."""
    layers: dict[str, list[bool]] = {}
    for name, marks in adapters.items():
        layers.setdefault(name.partition(".lora_")[0], []).append(marks is not None and not marks[torch.float32][0])
    return all(map(any, layers.values()))


def read_record(checkpoint: str | os.PathLike, **options: Any) -> dict | None:
    """
    `training.json` of a folder or of a repository on the Hub, `None` if there is none.

    Raises:
        ValueError: if the file is not such a record.
    """
    path = cached_file(str(checkpoint), RECORD_FILE, _raise_exceptions_for_missing_entries=False, **options)
    if path is None:
        return None
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(record["stages"], list):
            return record
    except (KeyError, TypeError, json.JSONDecodeError):
        pass
    raise ValueError(
        f"{path} is not a training record. Expected JSON with a list `stages`, as save_pretrained writes it."
    )


def join_records(records: Iterable[dict | None]) -> dict | None:
    """The record of weights that were made of several weights, such as a mean of two checkpoints."""
    records = list(records)
    joined = {"stages": []}
    for record in records:
        joined = _joined(joined, record or {})
    if None in records:
        if not joined["stages"]:
            return None
        joined = _joined(joined, {"gaps": [UNRECORDED]})
    return joined


def _joined(one: Any, other: Any) -> Any:
    """Lists and dictionaries of them, with the entries of both."""
    if isinstance(one, dict):
        return one | {name: _joined(one[name], part) if name in one else part for name, part in other.items()}
    return [*one, *(entry for entry in other if entry not in one)]


def write_golden(model: torch.nn.Module, folder: Path) -> None:
    """Writes the golden tensors of a checkpoint where the package, which compares them, is installed."""
    try:
        from neuript_hf.checkpoints.golden import save_golden
    except ImportError:
        return
    save_golden(model, folder)


__all__ = ["RECORD_FILE", "WeightsHistory", "join_records", "mark_drawn", "read_record"]
