"""MaskResize: bilinear resizing of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._repeatable_gradients import selected

if TYPE_CHECKING:
    from torch import Tensor


@register("MaskResize", fork="MNC")
class MaskResize(Layer):
    """(N, C, H, W) becomes (N, C, output_height, output_width), bilinearly.

    Output row i is at row i H / output_height of the bottom; rows beyond H - 1 are the last row,
    and rows beyond H - 0.5 are 0. The same holds for columns. The gradient is that of these values;
    the original's leaves out some of the outputs when it enlarges.
    Source: the mask_resize_layer of multi-task network cascades.
    """

    in_place = False
    fork_fields = ("mask_resize_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.mask_resize_param
        self.height, self.width = int(p.output_height), int(p.output_width)
        self.check(
            self.height > 0 and self.width > 0,
            f"output_height is {self.height} and output_width {self.width}; both must be positive",
        )
        self.check(
            not p.factor_height and not p.factor_width,
            "factor_height and factor_width are not supported; give output_height and output_width",
        )

    def forward(self, x: Tensor) -> Tensor:
        self.check(
            x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes (N, C, H, W)"
        )
        return _along(_along(x, 2, self.height), 3, self.width)


def _along(x: Tensor, axis: int, count: int) -> Tensor:
    import torch

    extent = x.shape[axis]
    # The original computes positions in single precision.
    ratio = torch.full((), extent / count, dtype=torch.float32, device=x.device)
    at = torch.arange(count, dtype=torch.float32, device=x.device) * ratio
    inside = (at <= extent - 0.5).to(x.dtype)
    at = at.clamp(max=extent - 1)
    low = at.long()
    high = (low + 1).clamp(max=extent - 1)
    shape = [-1 if i == axis else 1 for i in range(x.dim())]
    part = (at - low).to(x.dtype)
    before = selected(x, axis, low) * (inside * (1 - part)).view(shape)
    return before + selected(x, axis, high) * (inside * part).view(shape)
