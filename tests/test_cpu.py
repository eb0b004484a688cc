"""A process that keeps its memory."""

import sys

import pytest
import torch
from conftest import run_python


PROGRAM = """
import resource, sys
import torch
from neuript_hf.training.cpu import keep_memory

def page_faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_memory()
page_faults(10)
print(page_faults(10))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux") or torch.cuda.is_available(), reason="glibc's allocator, without a GPU"
)
def test_freed_memory_is_used_again():
    """As the allocator comes, every tensor gets new pages."""
    faults = {}
    for mode in ("as it comes", "keep"):
        faults[mode] = int(run_python("-c", PROGRAM, mode))
    assert faults["keep"] < faults["as it comes"] / 10
