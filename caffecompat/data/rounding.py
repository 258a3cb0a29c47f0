"""Rounding of numbers as C's ``round`` does it."""

from __future__ import annotations

from math import copysign, floor


def round_away(value: float) -> int:
    """The nearest whole number, halves away from 0; Python rounds halves to even numbers.

    It is not floor(abs(value) + 0.5): with the largest number below 0.5 that sum is rounded to 1.
    """
    size = abs(value)
    below = floor(size)
    return int(copysign(below + floor(2 * (size - below)), value))
