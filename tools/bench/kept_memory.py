"""A process that keeps its memory, so that timings are those of the work."""

from __future__ import annotations

import os
import sys

# glibc gives freed memory back to the kernel or keeps it, as the order of sizes will have it, and
# fresh pages can cost more than the work. With these settings it keeps all.
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 36)}


def keep_memory() -> None:
    """Starts this program again with an allocator that keeps what is freed, unless it does."""
    if not KEEPING.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEPING})
