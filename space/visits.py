"""
A visitor's file: taken over, read in a process of its own, deleted.

From its arrival to its reading a file lies in a folder that nobody else can name. Then file and folder are deleted,
whether or not it could be read, and so are those of visitors who have left.
"""

import hashlib
import multiprocessing
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from analysis import Look
from gradio import route_utils
from gradio.utils import get_upload_folder
from reader import MOST_WAIT, TOO_LARGE, read_and_send


ENDINGS = (".edf", ".bdf", ".fif", ".set", ".csv")
COMPANIONS = {".set": ".fdt"}  # what lies beside a file
MOST_MEGABYTES = 100
UPLOADS = Path(get_upload_folder()).resolve()
VISITS = UPLOADS.parent / "visits"
# Advice of the package that can be followed here, and how.
_ADVICE = {
    r"\b(sampling_rate|unit)=": "Here, these are the fields for tables under the file.",
    r"\bchannel_names=": "Here, names are those of the file: give a table a first line with them.",
    r"\b(net|montage|variable|trial|on_missing)=|window_seconds": (
        "This page does not have the other settings: use the package on your own computer."
    ),
}

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["reader"])


class Refused(Exception):
    """Why there is nothing to show, for the visitor to read: no path, no traceback; plain text, not yet HTML."""


class _Upload(route_utils.GradioUploadFile):
    """Gradio stores equal files at one place: two visitors with the same recording would delete each other's."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sha = hashlib.sha256(secrets.token_bytes(32))


def start() -> None:
    """Starts the process from which readers are forked, so that the first visitor need not wait for it."""
    route_utils.GradioUploadFile = _Upload
    VISITS.mkdir(parents=True, exist_ok=True)
    process = _forking.Process(target=int)
    process.start()
    process.join()


def take(files: list[dict[str, Any]]) -> tuple[Path, str]:
    """
    Moves an upload to a folder of its own, and deletes what is not a recording.

    Args:
        files: what Gradio says about each file: `path`, and `orig_name`, the visitor's own.

    Returns:
        where the recording lies now, and its name to show.

    Raises:
        Refused: if it is not one recording of a known format.
    """
    paths = [Path(file["path"]) for file in files]
    names = [shown_name(file.get("orig_name") or path.name) for file, path in zip(files, paths, strict=True)]
    try:
        if any(path.parent.parent != UPLOADS or not path.is_file() for path in paths):
            raise Refused("The file did not arrive whole. Choose it again.")
        endings = [path.suffix.lower() for path in paths]
        known = [ending for ending in endings if ending in ENDINGS]
        if len(known) != 1 or any(ending not in (known[0], COMPANIONS.get(known[0])) for ending in endings):
            kinds = ", ".join(ending[1:].upper() for ending in ENDINGS)
            raise Refused(
                f"Expected one recording as {kinds} (a SET with its FDT), but got {', '.join(names)}. If the ending "
                "is wrong, rename the file; if not, convert the recording, to EDF for example."
            )
        if sum(path.stat().st_size for path in paths) > MOST_MEGABYTES * 2**20:
            raise Refused(f"The recording is larger than {MOST_MEGABYTES} MB. Cut it, or use the package.")
        # a name of ours, that no word of a message can be taken for
        place = Path(tempfile.mkdtemp(dir=VISITS)) / secrets.token_hex(8)
        for path, ending in zip(paths, endings, strict=True):
            os.replace(path, place.with_suffix(ending))
        return place.with_suffix(known[0]), names[endings.index(known[0])]
    finally:
        for path in paths:
            if path.parent.parent == UPLOADS:
                shutil.rmtree(path.parent, ignore_errors=True)


def forget(taken: tuple[Path, str] | None) -> None:
    """Deletes what `take` has returned, if it is still there."""
    if taken is not None:
        shutil.rmtree(taken[0].parent, ignore_errors=True)


def shown_name(name: str) -> str:
    """A file's name without folders, and not too long to read."""
    name = re.split(r"[/\\]", name)[-1]
    return name if len(name) <= 60 else f"{name[:40]}…{name[-15:]}"


def read(path: Path, name: str, **given: Any) -> Look:
    """
    Reads a recording in a process of its own.

    Args:
        path: where it lies.
        name: what the visitor calls it.
        given: `sampling_rate` and `unit`, if the file does not state them.

    Raises:
        Refused: where it can't be read, or takes too much time or memory.
    """
    receiver, sender = _forking.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(dir=VISITS) as scratch:
        process = _forking.Process(target=read_and_send, args=(sender, path, Path(scratch), given), daemon=True)
        process.start()
        sender.close()
        try:
            look, problem = receiver.recv() if receiver.poll(MOST_WAIT) else (None, TOO_LARGE)
        except EOFError:  # it was stopped by its limits, or by the file
            look, problem = None, TOO_LARGE
        finally:
            process.kill()
            process.join()
            receiver.close()
    if look is None:
        raise Refused(f"{name}: {plain(problem, path, name)}")
    return look


def plain(message: str, path: Path, name: str) -> str:
    """A message of the package for a visitor: the file by the visitor's name, without paths, with advice."""
    message = message.replace(f" (file name: {path})", "").replace(f"{path.parent}{os.sep}", "")
    message = message.replace(path.stem, Path(name).stem)
    message = re.sub(r"(?<![\w/])(/[^\s/'\",;:)]+){2,}/?", "…", message)
    return " ".join([message, *(advice for pattern, advice in _ADVICE.items() if re.search(pattern, message))])
