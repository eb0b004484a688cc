"""Files that are there in whole or not at all, however a program ends."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


# A writer works in a folder of its own with this ending: two writers never meet, and leftovers are easy to find.
PARTIAL_SUFFIX = ".part"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """
    Yields a path to write to. It has the same file name, in a temporary folder beside `path`, and moves to `path` when
    the block ends; after an error nothing remains of it. A link at `path` is replaced, not followed.

        with atomic_write("figure.png") as partial:
            figure.savefig(partial)

    Args:
        path: a file, also one that exists already, or a new folder. Missing parent folders are made.
    """
    path = Path(path)
    folder = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    partial = folder / path.name
    folder.mkdir(parents=True)
    try:
        yield partial
        # the content reaches the disk before the name does, so that a power cut leaves no empty file
        if partial.is_file() and not partial.is_symlink():
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
        if os.name == "posix":
            parent = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_json(path: str | Path, content: Any) -> None:
    """Indented JSON, a list of numbers on one line; whole or not at all."""
    text = json.dumps(content, indent=2)
    text = re.sub(r"\[\n[^\[\]{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    with atomic_write(path) as partial:
        partial.write_text(text + "\n")


__all__ = ["PARTIAL_SUFFIX", "atomic_write", "write_json"]
