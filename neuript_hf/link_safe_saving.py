"""Saving into a folder whose code files are links, as they are in this repository's `hub/`."""

import os
from pathlib import Path
from typing import Any


class LinkSafeSaving:
    """
    Replaces links among a folder's code files by files before `save_pretrained` writes there. transformers copies code
    with `shutil.copyfile`, which would write through such a link onto the package.
    """

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        for path in Path(save_directory).glob("*.py"):
            if path.is_symlink() and path.exists():
                partial = path.with_name(f"{path.name}.{os.getpid()}.part")
                partial.write_bytes(path.read_bytes())
                partial.replace(path)
            elif path.is_symlink():
                path.unlink(missing_ok=True)
        return super().save_pretrained(save_directory, *args, **kwargs)


__all__ = ["LinkSafeSaving"]
