"""
The process that reads one recording and ends: forked from one that has imported this file, with the weights.

Whatever is in a stranger's file, it is met here: within limits of time and memory, with nobody else's data.
"""

import os
import resource
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from analysis import look_at


MOST_SECONDS = 60  # of computing
MOST_WAIT = 180  # seconds until the answer, however busy the machine is
MOST_MEMORY = 5 * 2**30  # bytes of addresses; the libraries have some 1.5 of these
MOST_WRITTEN = 200 * 2**20  # bytes of a temporary file, such as a corrected copy of an EDF file
TOO_LARGE = (
    "It takes more time or memory than a visit may have. Is the file damaged? If not, cut the recording, or use the "
    "package on your own computer."
)


def read_and_send(sender: Connection, path: Path, scratch: Path, given: dict[str, Any]) -> None:
    """Sends a [`Look`] and `None`, or `None` and what was wrong with the file."""
    os.chdir(scratch)
    tempfile.tempdir = str(scratch)
    sys.stdout = sys.stderr = open(os.devnull, "w")
    for limit, value in (
        (resource.RLIMIT_AS, MOST_MEMORY),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_FSIZE, MOST_WRITTEN),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    try:
        answer = look_at(path, **given), None
    except (ValueError, OSError, ImportError) as error:
        answer = None, TOO_LARGE if _ran_out_of_memory(error) else str(error)
    except MemoryError:
        answer = None, TOO_LARGE
    except Exception:
        answer = None, "It can't be read: perhaps it is damaged."
    sender.send(answer)


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether a reader's error came from the limit: they report whatever stopped them as a damaged file."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
