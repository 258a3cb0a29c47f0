"""ROIAlign of MS-CNN and Cascade R-CNN: bilinear samples on the corners of a region's bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, register
from caffecompat.layers.forks.rcnn.pooling._regions import (
    check_regions,
    columns,
    naming_bad_images,
    padded,
)
from caffecompat.layers.forks.rcnn.pooling._roi_grid import sampled

if TYPE_CHECKING:
    from torch import Tensor


@register("ROIAlign", fork="MS-CNN, Cascade R-CNN")
class ROIAlign(Layer):
    """Samples at the (pooled_h + 1) x (pooled_w + 1) corners of a region's bins.

    Bottoms: features (N, C, H, W) and regions (R, 5) with rows [image, x1, y1, x2, y2] in pixels of
    the image. Top: (R, C, pooled_h + 1, pooled_w + 1); nets let a Pooling layer with kernel size 2
    and stride 1 follow, which averages the corners of each bin.

    Corners of regions are multiplied by ``spatial_scale`` and moved by -0.5 pixel. A sample is
    bilinear; neighbours beyond the map are the nearest pixels of the map. It is 0 where the point
    is more than half a pixel beyond the outer pixels, and in regions without area. ``pad_ratio``
    first enlarges a region on each side by that part of its size. Regions get no gradient. Source:
    roi_align_layer of Cascade R-CNN, which reads ``roi_pooling_param``.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)
    reads_coordinates = True
    param_fields = ("roi_pooling_param",)
    fork_fields = ("roi_pooling_param",)
    batch_coupling = "takes regions from the whole batch"

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        if message.HasField("roi_align_param"):
            return False
        return True if message.HasField("roi_pooling_param") else None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.roi_pooling_param
        self.check(
            p.pooled_h > 0 and p.pooled_w > 0,
            f"pooled_h is {p.pooled_h} and pooled_w is {p.pooled_w}; both must be 1 or more",
        )
        self.bins = (int(p.pooled_h), int(p.pooled_w))
        self.spatial_scale = float(p.spatial_scale)
        self.pad_ratio = float(p.pad_ratio)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        check_regions(self, features.shape, regions.shape)
        image, corners = columns(regions)
        x1, y1, x2, y2 = padded(corners, self.pad_ratio)
        y, rows_inside = self._points(y1, y2, self.bins[0], features.shape[2])
        x, columns_inside = self._points(x1, x2, self.bins[1], features.shape[3])
        inside = rows_inside.unsqueeze(2) & columns_inside.unsqueeze(1)
        with naming_bad_images(self, features.shape[0]):
            return sampled(features, image, y, x, inside).contiguous()

    def _points(self, low: Tensor, high: Tensor, count: int, extent: int) -> tuple[Tensor, Tensor]:
        """Coordinates (R, count + 1) along an axis, and which of them count."""
        import torch

        start = low * self.spatial_scale - 0.5
        size = high * self.spatial_scale - 0.5 - start
        bins = torch.arange(count + 1, device=low.device, dtype=low.dtype)
        at = start.unsqueeze(1) + bins * (size / count).unsqueeze(1)
        inside = (at >= -0.5) & (at <= extent - 0.5) & (size > 0).unsqueeze(1)
        return at, inside
