"""Rounding of tensors as C's ``round`` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def round_away(x: Tensor) -> Tensor:
    """The nearest whole numbers, halves away from 0; torch rounds halves to even numbers.

    It is not floor(\\|x\\| + 0.5): with the largest number below 0.5 that sum is rounded to 1.
    """
    size = x.abs()
    below = size.floor()
    return (below + (2 * (size - below)).floor()).copysign(x)
