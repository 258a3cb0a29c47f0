"""Nesterov: Nesterov's accelerated gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffecompat.solver.optim.rules.base import Tensors, UpdateRule, register


@register("Nesterov")
class Nesterov(UpdateRule):
    """h' = momentum * h + rate * g; the update is (1 + momentum) * h' - momentum * h.

    Source: Caffe's NesterovSolver.
    """

    def updates(self, gradients: Tensors, history: Sequence[Tensors], rate: Tensor) -> Tensors:
        (velocity,) = history
        torch._foreach_mul_(gradients, rate)
        torch._foreach_mul_(velocity, self.momentum)
        # momentum * h, which is subtracted, is the value of the velocity at this point.
        updates = torch._foreach_neg(velocity)
        torch._foreach_add_(velocity, gradients)
        torch._foreach_add_(updates, velocity, alpha=1.0 + self.momentum)
        return list(updates)
