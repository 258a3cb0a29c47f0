"""Sigmoid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Sigmoid")
class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x)). Bottom and top have any shape. Source: Caffe's Sigmoid layer."""

    keeps_shape = True
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()
