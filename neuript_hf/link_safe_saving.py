"""Saving into a folder whose code files are links, as they are in this repository's `hub/`; saving whole folders."""

import os
from pathlib import Path
from typing import Any


class LinkSafeSaving:
    """
    Replaces links among a folder's code files by files before `save_pretrained` writes there. transformers copies
    code with `shutil.copyfile`, which would write through such a link onto the package. Afterwards the folder gets
    what else a checkpoint needs, as far as it is known by then.
    """

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        for path in Path(save_directory).glob("*.py"):
            if path.is_symlink() and path.exists():
                partial = path.with_name(f"{path.name}.{os.getpid()}.part")
                partial.write_bytes(path.read_bytes())
                partial.replace(path)
            elif path.is_symlink():
                path.unlink(missing_ok=True)
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            complete_folder(Path(save_directory))
        return saved


def complete_folder(folder: Path) -> None:
    """Writes the code files and the card where the package, which has them, is installed."""
    try:
        from neuript_hf.checkpoints.card import write_code_and_card
    except ImportError:
        return
    write_code_and_card(folder)


__all__ = ["LinkSafeSaving", "complete_folder"]
