"""ResizeBilinear of Synopsys' Caffe: resizing as TensorFlow's, bilinear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._repeatable_gradients import selected
from caffecompat.layers.forks.general._axis_resizing import AxisResizing

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN = ("input_scale", "output_scale", "input_zero_point", "output_zero_point", "saturate")


@register("ResizeBilinear", fork="Synopsys")
class ResizeBilinear(AxisResizing):
    """The bottom, resized to output_height x output_width.

    Without ``output_height`` the height is floor(H scale_height), and so with the width.
    ``data_format`` is NHWC (the default) or NCHW. Output row i is at row i s of the bottom, with
    s = H / H', or (H - 1) / (H' - 1) with ``align_corners``; ``half_pixel_centers`` puts it at
    (i + 0.5) s - 0.5, and so does ``pytorch_half_pixel``, but -0.5 if H' is 1. The neighbours are
    limited to the plane, the weight is the fraction of the position.
    Source: the resize_bilinear_layer of Synopsys' Caffe.
    """

    fork_fields = ("resize_bilinear_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.resize_bilinear_param
        for name in _PLAIN:
            self.check(
                getattr(p, name) == p.DESCRIPTOR.fields_by_name[name].default_value,
                f"resize_bilinear_param: {name} is not supported, it is for quantised nets",
            )
        self.aligned, self.half, self.torch_half = self.read(
            p, ("align_corners", "half_pixel_centers", "pytorch_half_pixel")
        )

    def resized(self, x: Tensor, axis: int, count: int) -> Tensor:
        import torch

        extent = x.shape[axis]
        step = extent / count
        if self.aligned and count > 1:
            step = (extent - 1) / (count - 1)
        # The original computes positions in single precision.
        at = torch.arange(count, dtype=torch.float32, device=x.device)
        ratio = torch.full((), step, dtype=torch.float32, device=x.device)
        at = (at + 0.5) * ratio - 0.5 if self.half or self.torch_half else at * ratio
        if self.torch_half and count == 1:
            at = at * 0 - 0.5
        low, high = at.floor(), at.ceil()
        part = (at - low).to(x.dtype).view([-1 if i == axis else 1 for i in range(x.dim())])
        # Neighbours outside of the plane are its first or last row.
        before = selected(x, axis, low.clamp(0, extent - 1).long())
        after = selected(x, axis, high.clamp(0, extent - 1).long())
        return before + (after - before) * part
