"""ResizeBilinear: TensorFlow's bilinear resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN = ("input_scale", "output_scale", "input_zero_point", "output_zero_point", "saturate")
# For each data_format: the axes that are resized, in the order height, width.
_AXES = {"NHWC": (1, 2), "NCHW": (2, 3)}


@register("ResizeBilinear", fork="Synopsys")
class ResizeBilinear(Layer):
    """The bottom, resized to output_height x output_width.

    Without ``output_height`` the height is floor(H scale_height), and so with the width.
    ``data_format`` is NHWC (the default) or NCHW. Output row i is at row i s of the bottom, with
    s = H / H', or (H - 1) / (H' - 1) with ``align_corners``; ``half_pixel_centers`` puts it at
    (i + 0.5) s - 0.5, and so does ``pytorch_half_pixel``, but -0.5 if H' is 1. The neighbours are
    limited to the plane, the weight is the fraction of the position.
    Source: the resize_bilinear_layer of Synopsys' Caffe.
    """

    in_place = False
    fork_fields = ("resize_bilinear_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.resize_bilinear_param
        self.check(
            p.data_format in _AXES,
            f'data_format is "{p.data_format}"; supported are {" and ".join(_AXES)}',
        )
        for name in _PLAIN:
            self.check(
                getattr(p, name) == p.DESCRIPTOR.fields_by_name[name].default_value,
                f"resize_bilinear_param: {name} is not supported, it is for quantised nets",
            )
        modes = [p.align_corners, p.half_pixel_centers, p.pytorch_half_pixel]
        self.check(
            sum(modes) <= 1,
            "only one of align_corners, half_pixel_centers and pytorch_half_pixel may be true",
        )
        self.aligned, self.half, self.torch_half = modes
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
            x = self._along(x, axis, count)
        return x

    def _along(self, x: Tensor, axis: int, count: int) -> Tensor:
        import torch

        extent = x.shape[axis]
        step = extent / count
        if self.aligned and count > 1:
            step = (extent - 1) / (count - 1)
        # The original computes positions in single precision.
        at = torch.arange(count, dtype=torch.float32, device=x.device)
        ratio = torch.tensor(step, dtype=torch.float32, device=x.device)
        at = (at + 0.5) * ratio - 0.5 if self.half or self.torch_half else at * ratio
        if self.torch_half and count == 1:
            at = at * 0 - 0.5
        low, high = at.floor(), at.ceil()
        part = (at - low).to(x.dtype).view([-1 if i == axis else 1 for i in range(x.dim())])
        # Neighbours outside of the plane are its first or last row.
        before = x.index_select(axis, low.clamp(0, extent - 1).long())
        after = x.index_select(axis, high.clamp(0, extent - 1).long())
        return before + (after - before) * part
