"""Interp: bilinear resizing with aligned corners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers.forks.segmentation.resizing._resize import resize_with_aligned_corners

if TYPE_CHECKING:
    from torch import Tensor


@register("Interp", fork="DeepLab, PSPNet, ICNet, OpenVINO")
class Interp(Layer):
    """The bottom (N, C, H, W), resized to (N, C, H', W') with aligned corners.

    ``pad_beg`` and ``pad_end`` (0 or negative) first crop the plane at its start and end, along
    both axes, to h x w. With a second bottom H' and W' are its extents; else the first of these
    that is given decides: ``shrink_factor`` alone, (h - 1) / shrink + 1; ``zoom_factor`` alone,
    h + (h - 1)(zoom - 1); ``height`` and ``width``; shrink and zoom, one after the other. Divisions
    are rounded down. Output row i is at row i (h - 1) / (H' - 1) of the bottom. The net does not
    tell that OpenVINO's Caffe is meant, in which ``zoom_factor`` alone gives h zoom: state it with
    ``dialect="openvino"``. Source: the Interp layers of DeepLab, PSPNet and OpenVINO's Caffe.
    """

    bottoms = between(1, 2)
    in_place = False
    differentiable = (True, False)
    dialects = ("openvino",)
    fork_fields = ("interp_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.interp_param
        for name in ("full_zoom_factor", "is_seglabel"):
            self.check(
                not p.HasField(name), f"interp_param: {name} is not supported, only one fork has it"
            )
        self.whole = self.context.options.dialect.lower() in self.dialects
        self.begin, self.end = -p.pad_beg, -p.pad_end
        self.check(
            self.begin >= 0 and self.end >= 0,
            f"pad_beg is {p.pad_beg} and pad_end {p.pad_end}; they crop, so they must be 0 or less",
        )
        self.shrink = p.shrink_factor if p.HasField("shrink_factor") else None
        self.zoom = p.zoom_factor if p.HasField("zoom_factor") else None
        self.size = (p.height, p.width) if p.HasField("height") and p.HasField("width") else None
        self.check(
            all(factor is None or factor >= 1 for factor in (self.shrink, self.zoom)),
            "shrink_factor and zoom_factor must be 1 or more",
        )
        self.check(self.size is None or min(self.size) > 0, "height and width must be positive")
        self.check(
            len(bottoms) == 2 or any((self.shrink, self.zoom, self.size)),
            "it has no output size; give height and width, or zoom_factor, or shrink_factor, or a "
            "second bottom",
        )

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        height, width = self._cropped(x.shape)
        x = x.narrow(2, self.begin, height).narrow(3, self.begin, width)
        if reference is not None:
            return resize_with_aligned_corners(x, *reference.shape[2:4])
        return resize_with_aligned_corners(x, *self.target_size(height, width))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape] | None:
        height, width = self._cropped(bottoms[0])
        size = bottoms[1][2:4] if len(bottoms) == 2 else self.target_size(height, width)
        return [(*bottoms[0][:2], *size)] if len(size) == 2 else None

    def _cropped(self, bottom: Sequence[int]) -> tuple[int, int]:
        """Height and width of the cropped plane."""
        self.check(
            len(bottom) == 4,
            f"the bottom is {format_shape(bottom)}, it must have 4 axes (N, C, H, W)",
        )
        height, width = (extent - self.begin - self.end for extent in bottom[2:])
        self.check(
            height > 0 and width > 0,
            f"nothing is left of the bottom {format_shape(bottom)} after pad_beg and pad_end",
        )
        return height, width

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """The size that the settings give for a cropped plane of ``height`` x ``width``."""
        if self.size is not None and (self.shrink is None) == (self.zoom is None):
            return self.size
        shrink, zoom = self.shrink or 1, self.zoom or 1
        if self.whole and self.shrink is None:
            return height * zoom, width * zoom

        def along(extent: int) -> int:
            extent = (extent - 1) // shrink + 1
            return extent + (extent - 1) * (zoom - 1)

        return along(height), along(width)
