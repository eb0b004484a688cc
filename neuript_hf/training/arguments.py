"""
Arguments of a program from a settings file, overridden on the command line:

    python examples/pretrain.py settings.yaml --max_steps 200
"""

import json
from pathlib import Path

import yaml
from transformers import HfArgumentParser


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


__all__ = ["parse_with_file"]
