"""Sigmoid: the logistic function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, register
from caffecompat.layers._exact_sigmoid import sigmoid

if TYPE_CHECKING:
    from torch import Tensor


@register("Sigmoid")
class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x)). Bottom and top have any shape. Source: Caffe's Sigmoid layer."""

    keeps_shape = True
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)
