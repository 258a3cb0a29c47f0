"""RMSProp: gradients divided by the root of their running mean square."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.rules.adagrad import divided_by_root
from caffecompat.solver.optim.rules.base import Tensors, UpdateRule, register


@register("RMSProp")
class RMSProp(UpdateRule):
    """h = d * h + (1 - d) * g^2; the update is rate * g / (sqrt(h) + delta); d is rms_decay.

    Source: Caffe's RMSPropSolver.
    """

    squares = (0,)

    def setup(self, message: Message) -> None:
        self.decay = float(message.rms_decay)
        self.check(self.momentum == 0, f"momentum is {self.momentum:g}, it cannot be used here")
        self.check(
            0 <= self.decay < 1, f"rms_decay is {self.decay:g}, it must be at least 0 and below 1"
        )

    def updates(self, gradients: Tensors, history: Sequence[Tensors], rate: Tensor) -> Tensors:
        (squares,) = history
        torch._foreach_mul_(squares, self.decay)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - self.decay)
        return divided_by_root(gradients, squares, self.delta, rate)
