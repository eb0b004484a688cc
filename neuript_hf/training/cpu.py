"""What only makes CPUs faster."""

import ctypes
import sys

import torch


# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_memory() -> bool:
    """
    Makes the process keep the memory that it frees, if it computes on a CPU under glibc; true if it does.

    A step of training allocates and frees the same large tensors again and again. glibc returns them to the system
    each time and fetches them again (docs/performance.md has what that costs). In exchange the process never shrinks
    below its peak. Call it once, before the work begins.
    """
    if torch.cuda.is_available() or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl and others have none
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))


__all__ = ["keep_memory"]
