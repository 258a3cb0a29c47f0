"""SGD: stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffecompat.net.kernels.update import Momentum, sgd_update
from caffecompat.solver.optim.rules.base import DeviceUpdate, Tensors, UpdateRule, register


@register("SGD")
class SGD(UpdateRule):
    """h = momentum * h + rate * g; the update is h.

    The history includes the rate: when the rate drops, the accumulated history does not shrink.
    Source: Caffe's SGDSolver.
    """

    writes_copies = True

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
        # The operation does not accept a history when the momentum is 0.
        if self.momentum == 0 or not all(map(_same_layout, values, gradients, velocity)):
            return None
        # torch's history does not include the rate. With lr = 1 and dampening = 1 - rate, gradient
        # and decay enter the history multiplied by the rate, which is Caffe's formula.
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

    def update_on_device(
        self, values: Tensors, gradients: Tensors, history: Sequence[Tensors], given: DeviceUpdate
    ) -> None:
        (velocity,) = history
        constants = Momentum(given.rate, given.skip, self.momentum, given.decay, given.kernel)
        sgd_update(values, gradients, velocity, constants, given.copies)


def _same_layout(*tensors: Tensor) -> bool:
    """Whether all tensors are dense and in one order, which the fused operation does not check.

    Strides of axes with an extent of 1 do not matter; those of 1x1 kernels differ.
    """
    first = tensors[0]
    if not (first.is_contiguous() or first.is_contiguous(memory_format=torch.channels_last)):
        return False
    strides = first.stride()
    for t in tensors:
        if t.dtype is not torch.float32:
            return False
        if t.stride() != strides and _strides(t) != _strides(first):
            return False
    return True


def _strides(tensor: Tensor) -> list[int]:
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    return [stride for stride, extent in pairs if extent > 1]
