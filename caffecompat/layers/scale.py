"""Scale: the product with a parameter or a second bottom, broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._broadcasting import Broadcasting
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor


@register("Scale")
class Scale(Broadcasting):
    """y = a x, or a x + b with ``bias_term``; a and b have the same shape, broadcast against x.

    See :class:`Broadcasting` for that shape. Without a filler a is 1 initially. With two bottoms
    the second is a, and the bias is the only parameter. Source: Caffe's Scale layer.
    """

    parameters = ("weight", "bias")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.scale_param
        shape = self.operand_shape(p, bottoms)
        if len(bottoms) == 1:
            self.parameter("weight", shape, p.filler if p.HasField("filler") else _ones())
        if p.bias_term:
            # The layer that adds it checks the axis for a single number too.
            self.axis(p.axis, bottoms[0])
            self.parameter("bias", shape, p.bias_filler)
        self.set_batch_coupling()

    def forward(
        self,
        x: Tensor,
        factor: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        operand = weight if factor is None else factor
        assert operand is not None
        scale = self.aligned(operand, x)
        return x * scale if bias is None else x * scale + self.aligned(bias, x)


def _ones() -> Message:
    filler = new("FillerParameter")
    filler.value = 1
    return filler
