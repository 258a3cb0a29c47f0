"""The rate drops every ``stepsize`` iterations."""

from __future__ import annotations

import numpy as np

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies.base import Policy, decayed, register


@register("step")
class Step(Policy):
    """base_lr * gamma ^ floor(iteration / stepsize)."""

    def setup(self, message: Message) -> None:
        self.check(message.stepsize > 0, f"stepsize is {message.stepsize}, it must be positive")
        self.check(message.gamma >= 0, f"gamma is {message.gamma:g}, it must not be negative")
        self.stepsize = message.stepsize
        self.gamma = np.float32(message.gamma)

    def rate(self, iteration: int) -> np.float32:
        self.step = iteration // self.stepsize
        return decayed(self.base_lr, self.gamma, self.step)
