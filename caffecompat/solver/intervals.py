"""Events of a training that come every so many iterations."""

from __future__ import annotations


def is_due(interval: int, iteration: int) -> bool:
    """Whether ``iteration`` is a multiple of ``interval``; an interval of 0 means never."""
    return interval > 0 and iteration % interval == 0
