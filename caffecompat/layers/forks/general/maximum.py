"""Maximum of Synopsys' Caffe: the larger of two values, with broadcast axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, exactly, register
from caffecompat.layers.forks.general._broadcast import check_broadcast

if TYPE_CHECKING:
    from torch import Tensor


@register("Maximum", fork="Synopsys")
class Maximum(Layer):
    """The larger value of two bottoms at each place.

    Axes count from the last one; an axis of 1 or a missing one is repeated. Source: Synopsys'
    Maximum layer; OpenPose's layer of this name, which no definition of its own uses, is another.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, True)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        import torch

        check_broadcast(self, x, other)
        return torch.where(x > other, x, other)
