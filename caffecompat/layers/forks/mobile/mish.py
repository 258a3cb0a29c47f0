"""Mish: the bottom times the hyperbolic tangent of its softplus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Mish", fork="YOLOv4")
class Mish(Layer):
    """y = x tanh(log(1 + exp(x))). Bottom and top have any shape.

    Source: the Mish layer of Caffe versions with YOLOv4; Misra (2019).
    """

    keeps_shape = True
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.mish(x)
