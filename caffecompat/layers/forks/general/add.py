"""Add of Synopsys' Caffe: a sum with broadcast axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, exactly, register
from caffecompat.layers.forks.general._broadcast import check_broadcast

if TYPE_CHECKING:
    from torch import Tensor


@register("Add", fork="Synopsys")
class Add(Layer):
    """The sum of two bottoms.

    Axes count from the last one; an axis of 1 or a missing one is repeated. Source: Synopsys' Add
    layer.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, True)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        check_broadcast(self, x, other)
        return x + other
