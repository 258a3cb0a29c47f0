"""The central crop."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.evaluate.protocol import Protocol, protocols


@protocols.register("center")
class Center(Protocol):
    """One crop in the middle of the image; odd margins are rounded down, as in Caffe."""

    def corners(self, height: int, width: int, crop: tuple[int, int]) -> Sequence[tuple[int, int]]:
        return [((height - crop[0]) // 2, (width - crop[1]) // 2)]
