"""ResizeNearestNeighbor: TensorFlow's and ONNX's resizing to the nearest element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor

# For each data_format: the axes that are resized, in the order height, width.
_AXES = {"NHWC": (1, 2), "NCHW": (2, 3)}


@register("ResizeNearestNeighbor", fork="Synopsys")
class ResizeNearestNeighbor(Layer):
    """The bottom, resized to output_height x output_width.

    Without ``output_height`` the height is floor(H scale_height), and so with the width.
    ``data_format`` is NHWC (the default) or NCHW. Output row i is the bottom's row floor(i s) with
    s = H / H'; with ``align_corners`` round(i (H - 1) / (H' - 1)); with ``half_pixel_centers``
    floor((i + 0.5) s); with ``half_pixel_onnx`` floor((i + 0.5) s - 0.5), at least 0. Positions are
    computed in single precision. The original has no gradient; here each row gets those of its
    copies. Source: the ResizeNearestNeighbor layer of Synopsys' Caffe.
    """

    in_place = False
    fork_fields = ("resize_nearest_neighbor_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.resize_nearest_neighbor_param
        # The original takes every other word for NCHW.
        self.check(
            p.data_format in _AXES,
            f'data_format is "{p.data_format}"; supported are {" and ".join(_AXES)}',
        )
        modes = [p.align_corners, p.half_pixel_centers, p.half_pixel_onnx]
        self.check(
            sum(modes) <= 1,
            "only one of align_corners, half_pixel_centers and half_pixel_onnx may be true",
        )
        self.aligned, self.half, self.onnx = modes
        self.axes = _AXES[p.data_format]
        self.sizes = [
            int(p.output_height) if p.HasField("output_height") else None,
            int(p.output_width) if p.HasField("output_width") else None,
        ]
        self.scales = (float(p.scale_height), float(p.scale_width))

    def forward(self, x: Tensor) -> Tensor:
        self.check(x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes")
        for axis, size, scale in zip(self.axes, self.sizes, self.scales, strict=True):
            count = int(x.shape[axis] * scale) if size is None else size
            self.check(
                count > 0, f"the top's extent would be {count}; give output_height and output_width"
            )
            x = x.index_select(axis, self._rows(x, x.shape[axis], count))
        return x

    def _rows(self, x: Tensor, extent: int, count: int) -> Tensor:
        """The bottom's row for each of the top's."""
        import torch

        aligned = self.aligned and count > 1
        step = (extent - 1) / (count - 1) if aligned else extent / count
        at = torch.arange(count, dtype=torch.float32, device=x.device)
        ratio = torch.tensor(step, dtype=torch.float32, device=x.device)
        if self.onnx:
            at = (at + 0.5) * ratio - 0.5
        elif self.half:
            at = (at + 0.5) * ratio
        elif self.aligned:
            # roundf, for positions that are not negative.
            at = at * ratio + 0.5
        else:
            at = at * ratio
        return at.floor().long().clamp(0, extent - 1)
