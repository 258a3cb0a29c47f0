"""Crops on a regular grid (VGG paper, Sect. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.evaluate.protocol import Protocol, protocols

# The paper: 50 crops per scale, a 5 x 5 regular grid with 2 flips.
GRID = 5


@protocols.register("multicrop")
class MultiCrop(Protocol):
    """Crops on a regular grid of 5 x 5 whose outer crops touch the border of the image.

    The paper does not state where the grid ends. Positions are rounded down.
    """

    def corners(self, height: int, width: int, crop: tuple[int, int]) -> Sequence[tuple[int, int]]:
        tops = [(height - crop[0]) * i // (GRID - 1) for i in range(GRID)]
        lefts = [(width - crop[1]) * i // (GRID - 1) for i in range(GRID)]
        return [(top, left) for top in tops for left in lefts]
