"""Correlation1D: how well patches of two maps match at horizontal displacements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import register
from caffecompat.layers.forks.flow._correlation import BaseCorrelation

if TYPE_CHECKING:
    from torch import Tensor


@register("Correlation1D", fork="FlowNet")
class Correlation1D(BaseCorrelation):
    """The matches at horizontal displacements; see :class:`BaseCorrelation`.

    Only the sides are padded, and positions stay max_displacement away from the left and right
    border alone. Top: 2 r + 1 channels, r = floor(max_displacement / stride_2), or r + 1 with
    ``single_direction`` -1 (dx from -(r + 1) to -1 times stride_2) or 1 (dx from 0 to r). What lies
    outside of the padded map at -(r + 1) counts as 0; the original reads the end of the row above.
    Source: FlowNet's Correlation1D layer.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        self.check_bottoms(a, b)
        edge = (self.kernel - 1) // 2
        height = -(-(a.shape[2] - 2 * edge) // self.stride)
        width = -(-(a.shape[3] + 2 * self.pad - 2 * (self.reach + edge)) // self.stride)
        self.check_extents(height, width, a)
        rows = (height - 1) * self.stride + self.kernel
        columns = (width - 1) * self.stride + self.kernel
        more = self.step if self.single == -1 else 0
        a = F.pad(a, [self.pad, self.pad])
        b = F.pad(b, [self.pad + more, self.pad])
        first = a.narrow(2, 0, rows).narrow(3, self.reach, columns)
        start = {0: -self.radius, 1: 0, -1: -self.radius - 1}[self.single]
        count = self.radius + 1 if self.single else 2 * self.radius + 1
        found = [
            self.matches(
                first,
                b.narrow(2, 0, rows).narrow(
                    3, self.reach + more + (start + k) * self.step, columns
                ),
            )
            for k in range(count)
        ]
        return torch.cat(found, 1)
