"""Mul of Synopsys' Caffe: a product with broadcast axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, register
from caffecompat.layers.forks.general._broadcast import check_broadcast
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor


@register("Mul", fork="Synopsys")
class Mul(Layer):
    """The product of two bottoms, or of one bottom and a parameter of shape ``mul_shape``.

    Axes count from the last one; an axis of 1 or a missing one is repeated. The parameter is
    ``factor`` and starts at 0: it comes from a weights file. Source: Synopsys' Mul layer.
    """

    bottoms = between(1, 2)
    in_place = False
    parameters = ("factor",)
    differentiable = (True, True)
    fork_fields = ("mul_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        if len(bottoms) == 1:
            self.parameter("factor", tuple(message.mul_param.mul_shape), new("FillerParameter"))

    def forward(self, x: Tensor, *others: Tensor, factor: Tensor | None = None) -> Tensor:
        other = others[0] if factor is None else factor
        check_broadcast(self, x, other)
        return x * other
