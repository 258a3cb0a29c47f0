"""Bias: the sum with a parameter or a second bottom, broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._broadcasting import Broadcasting

if TYPE_CHECKING:
    from torch import Tensor


@register("Bias")
class Bias(Broadcasting):
    """y = x + b, with b the second bottom or a parameter, broadcast against x.

    See :class:`Broadcasting` for the shape of b. Source: Caffe's Bias layer.
    """

    parameters = ("bias",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.bias_param
        shape = self.operand_shape(p, bottoms)
        if len(bottoms) == 1:
            self.parameter("bias", shape, p.filler)
        self.set_batch_coupling()

    def forward(
        self, x: Tensor, summand: Tensor | None = None, *, bias: Tensor | None = None
    ) -> Tensor:
        operand = bias if summand is None else summand
        assert operand is not None
        return x + self.aligned(operand, x)
