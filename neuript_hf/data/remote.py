"""
Recordings and results at any address that `fsspec` knows (`s3://`, `gs://`, `hf://`, `sftp://`, `zip://`, ...).

MNE reads local files, so a recording is fetched with the files that belong to it and removed after its turn.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .atomic import atomic_write


# What BIDS lets recordings further down share.
_SHARED_TABLES = ("_channels.tsv", "_events.tsv", "_eeg.json", "dataset_description.json")


def path_or_url(address: str | Path) -> Any:
    """
    A path, or for a URL an object that does the same with `fsspec` (`upath.UPath`).

    Raises:
        ImportError: for a URL without the package `universal_pathlib`, or without the one for its protocol.
    """
    if not isinstance(address, str) or "://" not in address:
        return Path(address) if isinstance(address, str) else address
    if find_spec("upath") is None:
        raise ImportError(f"{address} is a URL, which needs universal_pathlib: pip install universal_pathlib")
    from upath import UPath

    found = UPath(address)
    return Path(found.path) if found.protocol in ("file", "local") else found


def is_local(path: Any) -> bool:
    """Whether this is a path of this machine, and not a URL's."""
    return isinstance(path, Path)


def address_of(path: Any) -> str:
    """A path or URL as text, without the name and password that a URL may hold."""
    return str(path) if is_local(path) else re.sub(r"//[^/@]*@", "//", str(path))


@contextmanager
def local_copy(path: Any, root: Any) -> Iterator[Path]:
    """
    The recording as a file or folder of this machine: itself, or a copy that is removed afterwards. The copy comes
    with the files of its name (`.vmrk`, `.fdt`, later parts, tables) and the tables that BIDS puts further up.

    Args:
        path: a path or a URL's, see [`path_or_url`].
        root: the folder that the recording was found in; nothing above it is looked at.
    """
    if is_local(path):
        yield path
        return
    with TemporaryDirectory() as folder:
        for file in _belonging(path, root):
            copy = Path(folder) / str(file.relative_to(root))
            copy.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        yield Path(folder) / str(path.relative_to(root))


def _belonging(path: Any, root: Any) -> Iterator[Any]:
    """The files of a remote recording."""
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
        return
    stem = re.sub(r"(_eeg)?\.[^/]*$", "", path.name)
    yield from (file for file in path.parent.iterdir() if re.match(rf"{re.escape(stem)}[._-]", file.name))
    for folder in (up for up in path.parents if up.is_relative_to(root)):
        for file in folder.iterdir():
            if file.name.endswith(_SHARED_TABLES) and not file.name.startswith(stem):
                yield file


def write_whole(path: Any, content: bytes) -> None:
    """Writes a file that is there in whole or not at all, here or at a URL. Missing folders are made."""
    if is_local(path):
        with atomic_write(path) as partial:
            partial.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    partial.write_bytes(content)
    partial.fs.mv(partial.path, path.path)


__all__ = ["address_of", "is_local", "local_copy", "path_or_url", "write_whole"]
