"""Adam: moments of the gradient with bias correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.rules.adagrad import divided_by_root
from caffecompat.solver.optim.rules.base import Tensors, UpdateRule, register


@register("Adam")
class Adam(UpdateRule):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; the update is
    rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + delta).

    b1 is ``momentum``, b2 is ``momentum2``, t is the iteration plus one; delta is added to the
    uncorrected root. Source: Caffe's AdamSolver.
    """

    history_slots = 2
    squares = (1,)

    def setup(self, message: Message) -> None:
        self.momentum2 = float(message.momentum2)

    def rate_factor(self, iteration: int) -> float:
        t = iteration + 1
        with np.errstate(all="ignore"):
            root = np.sqrt(np.float64(1.0 - self.momentum2**t))
            return float(root / np.float64(1.0 - self.momentum**t))

    def updates(self, gradients: Tensors, history: Sequence[Tensors], rate: Tensor) -> Tensors:
        first, second = history
        torch._foreach_mul_(first, self.momentum)
        torch._foreach_add_(first, gradients, alpha=1.0 - self.momentum)
        torch._foreach_mul_(second, self.momentum2)
        torch._foreach_addcmul_(second, gradients, gradients, 1.0 - self.momentum2)
        return divided_by_root(first, second, self.delta, rate)
