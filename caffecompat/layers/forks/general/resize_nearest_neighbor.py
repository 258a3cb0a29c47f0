"""ResizeNearestNeighbor of Synopsys' Caffe: the nearest elements, as in TensorFlow and ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._repeatable_gradients import selected
from caffecompat.layers.forks.general._axis_resizing import AxisResizing

if TYPE_CHECKING:
    from torch import Tensor


@register("ResizeNearestNeighbor", fork="Synopsys")
class ResizeNearestNeighbor(AxisResizing):
    """The bottom, resized to output_height x output_width.

    Without ``output_height`` the height is floor(H scale_height), and so with the width.
    ``data_format`` is NHWC (the default) or NCHW. Output row i is the bottom's row floor(i s) with
    s = H / H'; with ``align_corners`` round(i (H - 1) / (H' - 1)); with ``half_pixel_centers``
    floor((i + 0.5) s); with ``half_pixel_onnx`` floor((i + 0.5) s - 0.5), at least 0. Positions are
    computed in single precision. The original has no gradient; here each row gets those of its
    copies. Source: the ResizeNearestNeighbor layer of Synopsys' Caffe.
    """

    fork_fields = ("resize_nearest_neighbor_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.aligned, self.half, self.onnx = self.read(
            message.resize_nearest_neighbor_param,
            ("align_corners", "half_pixel_centers", "half_pixel_onnx"),
        )

    def resized(self, x: Tensor, axis: int, count: int) -> Tensor:
        return selected(x, axis, self._rows(x, x.shape[axis], count))

    def _rows(self, x: Tensor, extent: int, count: int) -> Tensor:
        """The bottom's row for each of the top's."""
        import torch

        aligned = self.aligned and count > 1
        step = (extent - 1) / (count - 1) if aligned else extent / count
        at = torch.arange(count, dtype=torch.float32, device=x.device)
        ratio = torch.full((), step, dtype=torch.float32, device=x.device)
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
