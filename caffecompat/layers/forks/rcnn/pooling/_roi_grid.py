"""Bilinear samples of feature maps at points of regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._repeatable_gradients import selected

if TYPE_CHECKING:
    from torch import Tensor


def sampled(features: Tensor, image: Tensor, y: Tensor, x: Tensor, inside: Tensor) -> Tensor:
    """Bilinear samples (R, C, A, B) where rows ``y`` and columns ``x`` of each region cross.

    A neighbour beyond the map is the nearest pixel of the map, and so is a point beyond it.

    Args:
        features: (N, C, H, W).
        image: (R) int64, the map of each region.
        y, x: (R, A) and (R, B), coordinates in pixels of the map.
        inside: (R, A, B) bool; a sample is 0 where it is False.
    """
    n, c, h, w = features.shape
    flat = features.permute(0, 2, 3, 1).reshape(n * h * w, c)
    rows, columns = _neighbours(y, h), _neighbours(x, w)
    base = (image * (h * w))[:, None, None]
    total: Tensor | None = None
    for row, row_weight in rows:
        for column, column_weight in columns:
            index = base + row.unsqueeze(2) * w + column.unsqueeze(1)
            weight = (row_weight.unsqueeze(2) * column_weight.unsqueeze(1)).reshape(-1, 1)
            part = selected(flat, 0, index.reshape(-1)) * weight.to(features.dtype)
            total = part if total is None else total + part
    assert total is not None
    samples = total.reshape(*inside.shape, c).permute(0, 3, 1, 2)
    return samples.masked_fill(~inside.unsqueeze(1), 0)


def _neighbours(at: Tensor, extent: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The positions before and after each coordinate, each with its weight."""
    floor = at.floor()
    before = floor.clamp(0, extent - 1)
    after = (floor + 1).clamp(0, extent - 1)
    share = at.clamp(0, extent - 1) - before
    return (before.long(), 1 - share), (after.long(), share)
