"""SGD: stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffecompat.solver.rules.base import Tensors, UpdateRule, register


@register("SGD")
class SGD(UpdateRule):
    """h = momentum * h + rate * g; the update is h.

    The rate is inside the history: when it drops, what has been gathered does not shrink.
    Source: Caffe's SGDSolver.
    """

    def updates(self, gradients: Tensors, history: Sequence[Tensors], rate: Tensor) -> Tensors:
        (velocity,) = history
        torch._foreach_mul_(gradients, rate)
        torch._foreach_mul_(velocity, self.momentum)
        torch._foreach_add_(velocity, gradients)
        return velocity
