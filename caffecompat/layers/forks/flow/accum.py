"""Accum: maps of several sizes, resized and joined along channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, format_shape, register
from caffecompat.layers._repeatable_gradients import resized

if TYPE_CHECKING:
    from torch import Tensor


@register("Accum", fork="FlowNet")
class Accum(Layer):
    """The bottoms (N, C_i, H_i, W_i), resized with aligned corners, as (N, sum of C_i, H, W).

    H and W are those of the last bottom with ``have_reference``, which is not joined. Else they
    are ``top_height`` and ``top_width``, or the greatest height and width rounded up to a multiple
    of ``size_divisible_by``, if both are larger than all bottoms; else the greatest height and
    width. Bilinear. Source: FlowNet's Accum layer.
    """

    bottoms = at_least(1)
    in_place = False
    fork_fields = ("accum_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.accum_param
        self.reference = p.have_reference
        self.size = (p.top_height, p.top_width)
        self.multiple = p.size_divisible_by if p.HasField("size_divisible_by") else 0
        self.check(
            not self.reference or len(bottoms) > 1, "have_reference needs at least two bottoms"
        )

    def forward(self, *bottoms: Tensor) -> Tensor:
        import torch

        for x in bottoms:
            self.check(
                x.dim() == 4 and x.shape[0] == bottoms[0].shape[0],
                f"a bottom is {format_shape(x.shape)}; all must have 4 axes and as many rows",
            )
        joined = bottoms[:-1] if self.reference else bottoms
        size = self._size(bottoms)
        return torch.cat([resized(x, size, align_corners=True) for x in joined], 1)

    def _size(self, bottoms: Sequence[Tensor]) -> tuple[int, int]:
        if self.reference:
            return (bottoms[-1].shape[2], bottoms[-1].shape[3])
        height = max(x.shape[2] for x in bottoms)
        width = max(x.shape[3] for x in bottoms)
        top = self.size
        if self.multiple:
            top = (
                -(-height // self.multiple) * self.multiple,
                -(-width // self.multiple) * self.multiple,
            )
        return top if top[0] > height and top[1] > width else (height, width)
