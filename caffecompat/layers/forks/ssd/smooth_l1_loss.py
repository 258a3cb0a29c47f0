"""SmoothL1Loss: a loss that is quadratic near 0 and linear beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks._other_fields import refuse_other_fields

if TYPE_CHECKING:
    from torch import Tensor


@register("SmoothL1Loss", fork="SSD, Fast R-CNN")
class SmoothL1Loss(Loss):
    """sum(outside * e(inside * (x - target))) / N, with N the extent of the first axis.

    With d = inside * (x - target), e(d) is 0.5 * sigma^2 * d^2 where |d| < 1 / sigma^2, and
    |d| - 0.5 / sigma^2 elsewhere. Bottoms of one size: x, target, inside weights (1 by default),
    outside weights (1 by default). x and target get gradients. Source: the layers of SSD (up to
    three bottoms) and of Fast R-CNN (two or four).
    """

    bottoms = between(2, 4)
    differentiable = (True, True, False)
    fork_fields = ("smooth_l1_loss_param",)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.smooth_l1_loss_param
        refuse_other_fields(self, "smooth_l1_loss_param", p, ("sigma",))
        self.check(
            p.sigma > 0, f"smooth_l1_loss_param: sigma is {p.sigma:g}, expected a positive number"
        )
        self.square = float(p.sigma) ** 2

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for other in bottoms[1:]:
            self.check_item_shapes(bottoms[0], other)
        return [()]

    def forward(self, x: Tensor, target: Tensor, *weights: Tensor) -> Tensor:
        for other in (target, *weights):
            self.check_items(x, other)
        difference = x - target.reshape(x.shape)
        if weights:
            difference = difference * weights[0].detach().reshape(x.shape)
        size = difference.abs()
        near = 0.5 * self.square * difference.square()
        errors = near.where(size < 1 / self.square, size - 0.5 / self.square)
        if len(weights) > 1:
            errors = errors * weights[1].detach().reshape(x.shape)
        return errors.sum() / x.shape[0]
