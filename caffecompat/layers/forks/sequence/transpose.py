"""Transpose: the axes in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Transpose", fork="CTPN, caffe_ocr")
class Transpose(Layer):
    """Axis i of the top is axis ``dim`` i of the bottom; ``dim`` names each axis once.

    Source: CTPN's Transpose layer.
    """

    in_place = False
    fork_fields = ("transpose_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.order = tuple(message.transpose_param.dim)
        self.check(
            sorted(self.order) == list(range(len(bottoms[0]))),
            f"dim is {list(self.order)}; for the bottom {format_shape(bottoms[0])} it must name "
            f"each axis from 0 to {len(bottoms[0]) - 1} once",
        )
        self.batch_coupling = None if self.order[:1] == (0,) else ALONG_BATCH

    def forward(self, x: Tensor) -> Tensor:
        self.check(
            x.dim() == len(self.order),
            f"the bottom is {format_shape(x.shape)}, but dim names {len(self.order)} axes",
        )
        return x.permute(self.order)
