"""SGD: stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffecompat.solver.optim.rules.base import Tensors, UpdateRule, register


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

    def update_at_once(
        self,
        values: Tensors,
        gradients: Tensors,
        history: Sequence[Tensors],
        rate: float,
        decay: float,
    ) -> Tensors | None:
        (velocity,) = history
        # The operation refuses to keep a history that has no part in the update.
        if self.momentum == 0 or not all(map(_lie_alike, values, gradients, velocity)):
            return None
        # torch's rate stands outside its history. With 1 for it, and ours as what dampening leaves
        # of gradient and decay on their way into the history, its formula is Caffe's.
        torch._fused_sgd_(
            values,
            gradients,
            velocity,
            weight_decay=decay,
            momentum=self.momentum,
            lr=1.0,
            dampening=1.0 - rate,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
        return velocity


def _lie_alike(*tensors: Tensor) -> bool:
    """The fused operation walks through memory, whatever the strides."""
    first = tensors[0]
    dense = first.is_contiguous() or first.is_contiguous(memory_format=torch.channels_last)
    return dense and all(t.stride() == first.stride() and t.dtype == torch.float32 for t in tensors)
