"""Upsample of SegNet: the counterpart of MAX pooling, with its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, register
from caffecompat.layers.forks.segmentation.resizing._unpool import put_at_mask

if TYPE_CHECKING:
    from torch import Tensor


@register("Upsample", fork="SegNet")
class SegNetUpsample(Layer):
    """Zeros, but the values of the first bottom (N, C, H, W) at the indices in the second.

    The second bottom is the mask of a Pooling layer, its second top. The top's plane has
    ``upsample_h`` x ``upsample_w`` elements, or H scale - 1 with ``pad_out_h`` (W and ``pad_out_w``
    likewise); ``scale`` is 2 by default, ``scale_h`` and ``scale_w`` replace it.
    Source: SegNet's Upsample layer.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)
    fork_fields = ("upsample_param",)

    @classmethod
    def fits(cls, message: Message) -> bool:
        """Told by its second bottom."""
        return len(message.bottom) > 1

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.upsample_param
        pair = p.HasField("scale_h") or p.HasField("scale_w")
        self.check(
            not (pair and p.HasField("scale")), "give scale, or scale_h and scale_w; both are set"
        )
        self.check(
            not pair or (p.HasField("scale_h") and p.HasField("scale_w")),
            "give both scale_h and scale_w, or scale",
        )
        scale = p.scale if p.HasField("scale") else 2
        self.scale = (p.scale_h, p.scale_w) if pair else (scale, scale)
        self.check(min(self.scale) > 0, "scale, scale_h and scale_w must be positive")
        self.less = (int(p.pad_out_h), int(p.pad_out_w))
        self.check(
            not any(self.less) or self.scale == (2, 2), "pad_out_h and pad_out_w need scale 2"
        )
        self.size = (p.upsample_h, p.upsample_w)
        self.check((self.size[0] > 0) == (self.size[1] > 0), "give both upsample_h and upsample_w")

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = self.size if self.size[0] else self._scaled(x)
        return put_at_mask(self, x, mask, height, width)

    def _scaled(self, x: Tensor) -> tuple[int, int]:
        height, width = x.shape[2:4]
        return (
            height * self.scale[0] - self.less[0],
            width * self.scale[1] - self.less[1],
        )
