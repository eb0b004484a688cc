"""
Arguments of a program from a settings file, overridden on the command line:

    python examples/pretrain.py settings.yaml --max_steps 200

and those of `transformers.TrainingArguments` that do not fit NeurIPT (docs/training-arguments.md has all of them).
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

import yaml
from torch import nn
from transformers import HfArgumentParser, TrainingArguments
from transformers.utils import logging

from ..auxiliary_targets import head_sizes
from ..losses import problem_type_of
from ..modeling_neuript import NeurIPTForPreTraining


logger = logging.get_logger(__name__)

_FULL_EVAL = "it rounds the weights themselves, and they stay so. {0}=True evaluates in {0} and leaves them alone."
# Arguments of TrainingArguments: the values that work, and what is wrong with the others.
REFUSED: dict[str, tuple[tuple, str]] = {
    "use_liger_kernel": ((False,), "its kernels are for language models; NeurIPT has none of their layers."),
    "use_cache": ((False,), "it is for models that write text token by token; NeurIPT has no cache."),
    "neftune_noise_alpha": (
        (None,),
        "its noise is scaled for embeddings [B, tokens, d], but NeurIPT's are [B, C, T, d], and padding would get it, "
        "too. For louder and quieter windows there is amplitude_jitter of examples/pretrain.py.",
    ),
    "include_num_input_tokens_seen": (
        ("no", "all"),
        "attention_mask has an entry for each sample of a window and none for its channels. 'all' counts the samples "
        "of all channels, padding included.",
    ),
    "fp16_full_eval": ((False,), _FULL_EVAL.format("fp16")),
    "bf16_full_eval": ((False,), _FULL_EVAL.format("bf16")),
    "parallelism_config": (
        (None,),
        "its parallel forms split the tokens or the layers of a language model. Start the program with torchrun, "
        "which splits the batch.",
    ),
}


def parse_with_file(parser: HfArgumentParser, arguments: list[str]) -> tuple:
    """
    The parser's dataclasses. If the first argument is a `.yaml` file, it holds settings; the arguments after it
    override them.

    Raises:
        ValueError: for a setting in the file that does not exist.
    """
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        settings = yaml.safe_load(Path(arguments[0]).read_text())
        unknown = sorted(set(settings) - {action.dest for action in parser._actions})
        if unknown:
            raise ValueError(f"{arguments[0]} has settings that do not exist: {', '.join(unknown)}.")
        # options that take JSON on the command line are plain YAML in the file
        parser.set_defaults(
            **{name: json.dumps(value) if isinstance(value, dict) else value for name, value in settings.items()}
        )
        for action in parser._actions:
            action.required = action.required and action.dest not in settings
        arguments = arguments[1:]
    return parser.parse_args_into_dataclasses(arguments)


def read_json(option: str, text: str) -> dict:
    """
    The object in an option that takes JSON.

    Raises:
        ValueError: if it holds none.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"--{option} should hold an object in JSON, such as '{{\"name\": 1}}', but holds {text!r}.")
    return value


def run_program(main: Callable[[], None], *arguments: type) -> int:
    """
    Runs a program whose options are the fields of the dataclasses `arguments`; 0, or 1 where it refuses to work, with
    the reason on standard error. `TRANSFORMERS_VERBOSITY=debug` also shows where in the code that was.
    """
    try:
        main()
    except (ValueError, OSError) as error:
        logger.debug("The program ended here:", exc_info=True)
        options = [field.name for kind in arguments for field in fields(kind)]
        print(with_option_hint(str(error), options), file=sys.stderr)
        return 1
    return 0


def with_option_hint(message: str, options: Iterable[str], hint: str | None = None) -> str:
    """Errors advise with Python's arguments; where these are `options` of a program, a hint says how to give them."""
    found = re.search(rf"\b({'|'.join(options)})=('[^']*'|\w+(?:\.\d+)?|)", message)
    if found is None:
        return message
    name, value = found[1], found[2].strip("'")
    value = value.lower() if value in ("True", "False") else value or "..."
    return f"{message}\n({hint or f'Here, {name}={found[2] or value} is --{name} {value}, and so on.'})"


def refuse_unsupported(training: TrainingArguments) -> None:
    """
    Raises:
        ValueError: for an argument that would do something else than it says, with the reason and what to do.
    """
    for name, (allowed, reason) in REFUSED.items():
        if (value := getattr(training, name)) not in allowed:
            raise ValueError(f"{name}={value!r} does not work with NeurIPT: {reason}")


def refuse_other_loss(model: nn.Module, training: TrainingArguments, compute_loss_func: bool) -> None:
    """
    Raises:
        ValueError: for `label_smoothing_factor` or a `compute_loss_func` that does not fit what the model predicts.
    """
    pretraining, config = isinstance(model, NeurIPTForPreTraining), getattr(model, "config", None)
    if training.label_smoothing_factor:
        if pretraining or problem_type_of(config) != "single_label_classification":
            what = "reconstructs signals" if pretraining else f"is for {problem_type_of(config)}"
            raise ValueError(
                f"label_smoothing_factor is for one class per window, but the model {what}. Leave it at 0."
            )
        if config.loss_type != "cross_entropy":
            raise ValueError(
                f"label_smoothing_factor replaces the loss by a cross entropy, but the configuration asks for "
                f"loss_type={config.loss_type!r}. Leave the factor at 0, or set loss_type='cross_entropy'."
            )
    if compute_loss_func and pretraining and (heads := head_sizes(config)):
        raise ValueError(
            f"compute_loss_func replaces the loss, but the configuration has further targets ({', '.join(heads)}), "
            "whose losses would be lost. Leave compute_loss_func out, or set spectral_mean and time_course_bins to "
            "None."
        )


__all__ = [
    "REFUSED",
    "parse_with_file",
    "read_json",
    "refuse_other_loss",
    "refuse_unsupported",
    "run_program",
    "with_option_hint",
]
