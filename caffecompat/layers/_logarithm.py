"""The base of Exp and Log."""

from __future__ import annotations

from math import inf, log

from caffecompat.layers._base import Layer


def log_of_base(layer: Layer, base: float) -> float:
    """The natural logarithm of the field ``base``; -1, its default, means e."""
    if base == -1:
        return 1.0
    layer.check(0 < base < inf, f"base is {base:g}, it must be positive, or -1 for e")
    return log(base)
