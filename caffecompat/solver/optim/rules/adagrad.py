"""AdaGrad: gradients divided by the root of the sum of their squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.rules.base import Tensors, UpdateRule, register


@register("AdaGrad")
class AdaGrad(UpdateRule):
    """h = h + g^2; the update is rate * g / (sqrt(h) + delta).   Source: Caffe's AdaGradSolver."""

    squares = (0,)

    def setup(self, message: Message) -> None:
        self.check(self.momentum == 0, f"momentum is {self.momentum:g}, it cannot be used here")

    def updates(self, gradients: Tensors, history: Sequence[Tensors], rate: Tensor) -> Tensors:
        (squares,) = history
        torch._foreach_addcmul_(squares, gradients, gradients)
        return divided_by_root(gradients, squares, self.delta, rate)


def divided_by_root(values: Tensors, squares: Tensors, delta: float, rate: Tensor) -> Tensors:
    """rate * values / (sqrt(squares) + delta), as new tensors."""
    updates = torch._foreach_sqrt(squares)
    torch._foreach_add_(updates, delta)
    updates = torch._foreach_div(values, updates)
    torch._foreach_mul_(updates, rate)
    return list(updates)
