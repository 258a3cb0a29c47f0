"""Correlation: how well patches of two maps match at displacements in both axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import register
from caffecompat.layers.forks.flow._correlation import BaseCorrelation

if TYPE_CHECKING:
    from torch import Tensor


@register("Correlation", fork="FlowNet")
class Correlation(BaseCorrelation):
    """The matches at all displacements (dy, dx), dy outer; see :class:`BaseCorrelation`.

    Top: ((2 r + 1)^2 channels, r = floor(max_displacement / stride_2)), with the extents
    ceil((H + 2 pad - 2 (max_displacement + (kernel_size - 1) / 2)) / stride_1), W alike.
    Source: FlowNet's Correlation layer.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        self.check_bottoms(a, b)
        border = 2 * (self.reach + (self.kernel - 1) // 2)
        height, width = (-(-(n + 2 * self.pad - border) // self.stride) for n in a.shape[2:])
        self.check_extents(height, width, a)
        a, b = F.pad(a, [self.pad] * 4), F.pad(b, [self.pad] * 4)
        rows = (height - 1) * self.stride + self.kernel
        columns = (width - 1) * self.stride + self.kernel
        first = a.narrow(2, self.reach, rows).narrow(3, self.reach, columns)
        moves = range(-self.radius * self.step, self.radius * self.step + 1, self.step)
        found = [
            self.matches(
                first, b.narrow(2, self.reach + dy, rows).narrow(3, self.reach + dx, columns)
            )
            for dy in moves
            for dx in moves
        ]
        return torch.cat(found, 1)
