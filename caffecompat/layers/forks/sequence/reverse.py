"""Reverse: the order along one axis reversed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Reverse", fork="CTPN, caffe_ocr")
class Reverse(Layer):
    """The bottom with the order along ``axis`` (0 by default) reversed. Source: CTPN's Reverse."""

    in_place = False
    fork_fields = ("reverse_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.along = self.axis(message.reverse_param.axis, bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self.along)
