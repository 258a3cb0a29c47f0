"""Freed memory that a process keeps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys

import numpy as np

from caffecompat.kept_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(100_000_000, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
faults()
print(kept, faults())
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")


def run(**variables: str) -> tuple[str, int]:
    """What the function returned, and the page faults of a second array of 100 MB."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")
    }
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = process.stdout.split()
    return kept, int(faults)


def test_a_freed_block_is_used_again() -> None:
    kept, faults = run()
    assert kept == "True"
    assert faults < 20


def test_the_environment_decides() -> None:
    kept, faults = run(MALLOC_MMAP_THRESHOLD_="100000")
    assert kept == "False"
    assert faults > 20
