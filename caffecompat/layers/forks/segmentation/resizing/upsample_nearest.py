"""Upsample of YOLOv3: each element repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._repeatable_gradients import selected

if TYPE_CHECKING:
    from torch import Tensor


class NearestUpsample(Layer):
    """Each element of the bottom (..., H, W) becomes a block of scale x scale equal elements."""

    in_place = False
    scale: int

    def repeat(self, scale: int, field: str) -> None:
        """Sets the factor of both axes, which ``field`` of the definition gives."""
        self.check(scale > 0, f"{field} is {scale}, it must be positive")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        import torch

        self.check(x.dim() >= 2, f"the bottom is {format_shape(x.shape)}, it needs at least 2 axes")
        if not x.is_cuda:
            return x.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)
        for axis in (x.dim() - 2, x.dim() - 1):
            places = torch.arange(x.shape[axis] * self.scale, device=x.device) // self.scale
            x = selected(x, axis, places)
        return x


@register("Upsample", fork="YOLOv3")
class DarknetUpsample(NearestUpsample):
    """Each element of the bottom (..., H, W), repeated ``scale`` times along both axes.

    The top is (..., H scale, W scale); ``scale`` is 1 by default.
    Source: the Upsample layer of Caffe versions with YOLOv3.
    """

    fork_fields = ("upsample_param",)

    @classmethod
    def fits(cls, message: Message) -> bool:
        """Told by its only bottom."""
        return len(message.bottom) == 1

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.upsample_param
        others = [field.name for field, _ in p.ListFields() if field.name != "scale"]
        self.check(
            not others,
            f"{', '.join(others)} is a setting of the Upsample layer with a pooling mask; give the "
            "mask as second bottom, or scale alone",
        )
        self.repeat(p.scale if p.HasField("scale") else 1, "scale")
