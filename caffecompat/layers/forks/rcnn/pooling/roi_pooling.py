"""ROIPooling: the maxima of a grid of bins in each region of interest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, register
from caffecompat.layers._rounding import round_away
from caffecompat.layers.forks.rcnn.pooling._range_maximum import rectangle_maxima
from caffecompat.layers.forks.rcnn.pooling._regions import (
    check_images,
    check_regions,
    columns,
    padded,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("ROIPooling", fork="Fast R-CNN, R-FCN, MS-CNN, Cascade R-CNN")
class ROIPooling(Layer):
    """The maximum of each channel in each of pooled_h x pooled_w bins of a region.

    Bottoms: features (N, C, H, W) and regions (R, 5) with rows [image, x1, y1, x2, y2] in pixels of
    the image, both corners included. Top: (R, C, pooled_h, pooled_w).

    Corners are multiplied by ``spatial_scale`` and rounded, halves away from zero; a region has at
    least one row and one column. Bin i of b covers the rows floor(i * size / b) to
    ceil((i + 1) * size / b) - 1 of the region, as far as they lie in the map. An empty bin is 0.
    MS-CNN's ``pad_ratio`` first enlarges a region on each side by that part of its size.

    The gradient goes to the first maximum of a bin; regions get none. Sources: roi_pooling_layer of
    Fast R-CNN and of Cascade R-CNN.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)
    reads_coordinates = True
    fork_fields = ("roi_pooling_param",)
    batch_coupling = "takes regions from the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.roi_pooling_param
        self.check(
            p.pooled_h > 0 and p.pooled_w > 0,
            f"pooled_h is {p.pooled_h} and pooled_w is {p.pooled_w}; both must be 1 or more",
        )
        self.check(
            not p.pooled_size, "pooled_size is not supported; give pooled_h and pooled_w instead"
        )
        self.bins = (int(p.pooled_h), int(p.pooled_w))
        self.spatial_scale = float(p.spatial_scale)
        self.pad_ratio = float(p.pad_ratio)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        features, regions = bottoms
        check_regions(self, features, regions)
        return [(regions[0], features[1], *self.bins)]

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        check_regions(self, features.shape, regions.shape)
        image, corners = columns(regions)
        x1, y1, x2, y2 = padded(corners, self.pad_ratio) if self.pad_ratio else corners
        rows = self._bounds(y1, y2, self.bins[0], features.shape[2])
        across = self._bounds(x1, x2, self.bins[1], features.shape[3])
        check_images(self, image, features.shape[0])
        return rectangle_maxima(features, image, rows, across).contiguous()

    def _bounds(self, low: Tensor, high: Tensor, count: int, extent: int) -> tuple[Tensor, Tensor]:
        """First and end of each bin (R, count) along an axis, within 0 to ``extent``."""
        import torch

        start = round_away(low * self.spatial_scale)
        size = (round_away(high * self.spatial_scale) - start + 1).clamp(min=1)
        step = (size / count).unsqueeze(1)
        bins = torch.arange(count, device=low.device, dtype=low.dtype)
        first = (bins * step).floor() + start.unsqueeze(1)
        end = ((bins + 1) * step).ceil() + start.unsqueeze(1)
        return first.clamp(0, extent).long(), end.clamp(0, extent).long()
