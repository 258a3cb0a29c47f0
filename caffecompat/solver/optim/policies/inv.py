"""The rate decays with the inverse of the iteration."""

from __future__ import annotations

import numpy as np

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies.base import Policy, power, register


@register("inv")
class Inverse(Policy):
    """base_lr * (1 + gamma * iteration) ^ -power.

    Every operation is rounded to float32, as in Caffe with float parameters.
    """

    def setup(self, message: Message) -> None:
        self.check(message.gamma >= 0, f"gamma is {message.gamma:g}, it must not be negative")
        self.gamma = np.float32(message.gamma)
        self.power = np.float32(message.power)

    def rate(self, iteration: int) -> np.float32:
        growth = np.float32(1) + self.gamma * np.float32(iteration)
        return self.base_lr * np.float32(power(growth, -float(self.power)))
