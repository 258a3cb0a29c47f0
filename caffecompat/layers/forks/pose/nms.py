"""Nms of OpenPose: the peaks of maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor

_REACH = 3


@register("Nms", fork="OpenPose")
class Nms(Layer):
    """Places of peaks in the first ``num_parts`` maps: (N, C, H, W) becomes (N, P, M + 1, 3).

    M is ``max_peaks``. The first number of row 0 is the number of peaks; the rows after it are
    [x, y, value] of the first M, row by row of the map. A peak is above ``threshold`` and above its
    eight neighbours, and does not lie at the edge. Its x and y are the mean of the pixels at most 3
    rows and columns away, weighted with their values; values of 0 or less, and the first row and
    column of the map, do not count. Rows without a peak are 0. No gradient. ``num_peak`` is not
    used.

    Source: nms_layer.cu of OpenPose's Caffe; it takes the map's width for its height, so that some
    means near the lower edge differ.
    """

    in_place = False
    differentiable = (False,)
    fork_fields = ("nms_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.nms_param
        self.parts, self.most = int(p.num_parts), int(p.max_peaks)
        self.threshold = float(p.threshold)
        self.check(
            min(self.parts, self.most) > 0, "nms_param: num_parts and max_peaks must be positive"
        )

    def forward(self, maps: Tensor) -> Tensor:
        import torch

        self.check(
            maps.dim() == 4 and maps.shape[1] >= self.parts,
            f"the bottom is {format_shape(maps.shape)}; expected N x C x H x W with {self.parts} "
            "maps or more",
        )
        x = maps.detach()[:, : self.parts]
        peaks = self._peaks(x).flatten(2)
        rank = peaks.to(torch.int64).cumsum(2)
        # Pixels without a peak, and peaks beyond the last row, go to a row that is left out.
        row = torch.where(peaks & (rank <= self.most), rank, self.most + 1)
        columns = []
        for values in (*_centres(x), x):
            empty = x.new_zeros(*x.shape[:2], self.most + 2)
            columns.append(empty.scatter(2, row, values.flatten(2))[:, :, : self.most + 1])
        columns[0][:, :, 0] = rank[:, :, -1].to(x.dtype)
        return torch.stack(columns, 3)

    def _peaks(self, x: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        found = torch.zeros_like(x, dtype=torch.bool)
        if min(x.shape[2:]) < 3:
            return found
        middle = x[:, :, 1:-1, 1:-1]
        inner = middle > self.threshold
        for down in range(3):
            for right in range(3):
                if (down, right) != (1, 1):
                    rows = slice(down, x.shape[2] - 2 + down)
                    inner = inner & (middle > x[:, :, rows, right : x.shape[3] - 2 + right])
        return F.pad(inner, [1, 1, 1, 1])


def _centres(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean column and row of the values around each pixel."""
    import torch
    import torch.nn.functional as F

    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device, dtype=x.dtype)
    columns = torch.arange(width, device=x.device, dtype=x.dtype)
    weights = x.clamp(min=0) * (rows > 0)[:, None] * (columns > 0)
    window = 2 * _REACH + 1
    ones = x.new_ones(1, 1, window, window)

    def total(values: Tensor) -> Tensor:
        flat = values.flatten(0, 1).unsqueeze(1)
        return F.conv2d(flat, ones, padding=_REACH).reshape(x.shape)

    every = total(weights)
    return total(weights * columns) / every, total(weights * rows[:, None]) / every
