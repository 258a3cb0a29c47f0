"""The rate drops at given iterations."""

from __future__ import annotations

import numpy as np

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies.base import Policy, decayed, register


@register("multistep")
class MultiStep(Policy):
    """base_lr * gamma ^ (steps taken so far).

    At most one step is taken per iteration, so equal step values act in successive iterations;
    the count is part of the solver state.
    """

    status = "MultiStep Status"

    def setup(self, message: Message) -> None:
        self.check(message.gamma >= 0, f"gamma is {message.gamma:g}, it must not be negative")
        self.values = list(message.stepvalue)
        self.gamma = np.float32(message.gamma)

    def rate(self, iteration: int) -> np.float32:
        if self.step < len(self.values) and iteration >= self.values[self.step]:
            self.step += 1
        return decayed(self.base_lr, self.gamma, self.step)
