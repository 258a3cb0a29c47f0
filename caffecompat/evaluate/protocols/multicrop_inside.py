"""Crops on a regular grid that keeps away from the border."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.evaluate.protocol import Protocol, protocols
from caffecompat.evaluate.protocols.multicrop import GRID


@protocols.register("multicrop-inside")
class MultiCropInside(Protocol):
    """Crops on a regular grid of 5 x 5, the outer ones half a step away from the border.

    The other reading of the paper's grid, see :mod:`.multicrop`. Positions are rounded down.
    """

    def corners(self, height: int, width: int, crop: tuple[int, int]) -> Sequence[tuple[int, int]]:
        tops = [(height - crop[0]) * (2 * i + 1) // (2 * GRID) for i in range(GRID)]
        lefts = [(width - crop[1]) * (2 * i + 1) // (2 * GRID) for i in range(GRID)]
        return [(top, left) for top in tops for left in lefts]
