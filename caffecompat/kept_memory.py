"""A process that keeps the memory that it frees, since it needs it again in the next pass.

glibc takes large blocks from the kernel and gives them back when they are freed. A net needs blocks
of the same sizes in each pass, and the kernel fills each fresh page with zeros first: a quarter of
the time of VGG's forward pass on a CPU.
"""

from __future__ import annotations

import ctypes
import os

# mallopt's numbers for M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Bytes. Blocks of more than the first are still given back; so is free memory beyond the second.
_LARGEST_KEPT = 1 << 30
_MOST_KEPT = (1 << 31) - 1
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, from now on.

    Returns:
        Whether it does: not where the C library is not glibc, or where the environment sets
        ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_``, glibc's own way to choose.
    """
    if any(name in os.environ for name in _VARIABLES):
        return False
    try:
        library = ctypes.CDLL(None)
        is_glibc, mallopt = hasattr(library, "gnu_get_libc_version"), library.mallopt
    except (OSError, TypeError, AttributeError):
        return False
    if not is_glibc:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, _MOST_KEPT))
