"""
The code files of `hub/`: links to the package in this repository, copies in what users upload.

    python -m neuript_hf.checkpoints.links hub/*     # `make hub`: every folder links the package's travelling files
"""

import os
import shutil
import sys
from pathlib import Path


PACKAGE = Path(__file__).resolve().parents[1]


def code_files() -> list[Path]:
    """The files that travel with weights: every module directly in `neuript_hf/`, except `__init__` and `__main__`."""
    return sorted(path for path in PACKAGE.glob("*.py") if not path.name.startswith("__"))


def link_code(folder: str | Path) -> None:
    """
    Replaces the code files of a folder by relative links to the package's. Where the system cannot make links, as on
    Windows without developer mode, they become copies.
    """
    folder = Path(folder)
    for path in folder.glob("*.py"):
        path.unlink()
    for source in code_files():
        try:
            (folder / source.name).symlink_to(os.path.relpath(source, folder.resolve()))
        except OSError:
            shutil.copyfile(source, folder / source.name)


def check_code(folder: str | Path) -> None:
    """
    Raises:
        ValueError: if code files of the folder are broken links, or text files with the target of a link, which git
            writes on systems without links and which zip programs unpack.
    """
    broken = [
        path.name
        for path in sorted(Path(folder).glob("*.py"))
        if not path.exists() or (path.stat().st_size < 200 and path.read_text().strip().startswith("../"))
    ]
    if broken:
        raise ValueError(
            f"The code files of {folder} are links that lead nowhere: {', '.join(broken)}. Expected Python code. Run "
            f"`make hub` in the repository, or without make `python -m neuript_hf.checkpoints.links {folder}`."
        )


__all__ = ["check_code", "code_files", "link_code"]


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        link_code(argument)
