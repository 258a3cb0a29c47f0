"""PSROIPooling: means of bins of a region, each bin from channels of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, register
from caffecompat.layers._repeatable_gradients import selected
from caffecompat.layers._rounding import round_away
from caffecompat.layers.forks.rcnn.pooling._regions import (
    check_regions,
    columns,
    naming_bad_images,
)

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SIZE = 0.1


@register("PSROIPooling", fork="R-FCN, Cascade R-CNN")
class PSROIPooling(Layer):
    """Position-sensitive pooling: the mean of bin (i, j) comes from channel (c * k + i) * k + j.

    Bottoms: features (N, k * k * output_dim, H, W) with k = ``group_size``, and regions (R, 5) with
    rows [image, x1, y1, x2, y2] in pixels of the image, both corners included. Top:
    (R, output_dim, k, k).

    A region begins at round(x1) * ``spatial_scale`` and ends at (round(x2) + 1) * spatial_scale,
    not rounded; it is at least 0.1 wide and high. Bin i covers the rows floor(start + i * size / k)
    to ceil(start + (i + 1) * size / k) - 1, as far as they lie in the map. An empty bin is 0.
    Regions get no gradient. Source: psroi_pooling_layer of R-FCN.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)
    reads_coordinates = True
    fork_fields = ("psroi_pooling_param",)
    batch_coupling = "takes regions from the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.psroi_pooling_param
        self.check(
            p.output_dim > 0 and p.group_size > 0 and p.spatial_scale > 0,
            f"output_dim is {p.output_dim}, group_size is {p.group_size} and spatial_scale is "
            f"{p.spatial_scale:g}; all must be positive",
        )
        self.output_dim, self.bins = int(p.output_dim), int(p.group_size)
        self.spatial_scale = float(p.spatial_scale)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        features, regions = bottoms
        check_regions(self, features, regions)
        self._check_channels(features[1])
        return [(regions[0], self.output_dim, self.bins, self.bins)]

    def _check_channels(self, channels: int) -> None:
        wanted = self.output_dim * self.bins**2
        self.check(
            channels == wanted,
            f"its first bottom has {channels} channels; output_dim {self.output_dim} and "
            f"group_size {self.bins} need {wanted}",
        )

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        check_regions(self, features.shape, regions.shape)
        self._check_channels(features.shape[1])
        image, (x1, y1, x2, y2) = columns(regions)
        rows = self._bounds(y1, y2, features.shape[2])
        across = self._bounds(x1, x2, features.shape[3])
        with naming_bad_images(self, features.shape[0]):
            sums = self._sums(features, image, rows, across)
        high, wide = rows[1] - rows[0], across[1] - across[0]
        area = (high.unsqueeze(2) * wide.unsqueeze(1)).unsqueeze(1)
        empty = ((high <= 0).unsqueeze(2) | (wide <= 0).unsqueeze(1)).unsqueeze(1)
        return (sums / area.clamp(min=1)).masked_fill(empty, 0).to(features.dtype)

    def _bounds(self, low: Tensor, high: Tensor, extent: int) -> tuple[Tensor, Tensor]:
        """First and end of each bin (R, k) along an axis, within 0 to ``extent``."""
        import torch

        start = (round_away(low) * self.spatial_scale).unsqueeze(1)
        end = ((round_away(high) + 1) * self.spatial_scale).unsqueeze(1)
        step = (end - start).clamp(min=LEAST_SIZE) / self.bins
        bins = torch.arange(self.bins, device=low.device, dtype=low.dtype)
        first = (bins * step + start).floor().clamp(0, extent)
        last = ((bins + 1) * step + start).ceil().clamp(0, extent)
        return first.long(), last.long()

    def _sums(
        self,
        features: Tensor,
        image: Tensor,
        rows: tuple[Tensor, Tensor],
        across: tuple[Tensor, Tensor],
    ) -> Tensor:
        """The sums (R, output_dim, k, k) over the bins, from sums over the map, in 64 bits."""
        import torch

        n, _, h, w = features.shape
        k = self.bins
        total = features.double().cumsum(2).cumsum(3)
        total = torch.nn.functional.pad(total, (1, 0, 1, 0))
        total = total.reshape(n, self.output_dim, k * k, h + 1, w + 1).permute(0, 2, 3, 4, 1)
        flat = total.reshape(-1, self.output_dim)
        group = torch.arange(k * k, device=features.device).reshape(k, k)
        base = (image[:, None, None] * (k * k) + group) * ((h + 1) * (w + 1))

        def at(row: Tensor, column: Tensor) -> Tensor:
            index = base + row.unsqueeze(2) * (w + 1) + column.unsqueeze(1)
            return selected(flat, 0, index.reshape(-1))

        (top, bottom), (left, right) = rows, across
        sums = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
        return sums.reshape(-1, k, k, self.output_dim).permute(0, 3, 1, 2)
