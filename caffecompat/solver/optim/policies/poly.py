"""The rate falls to zero at the last iteration along a power law."""

from __future__ import annotations

import numpy as np

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies.base import Policy, power, register


@register("poly")
class Polynomial(Policy):
    """base_lr * (1 - iteration / max_iter) ^ power.

    Every operation is rounded to float32, as in Caffe with float parameters.
    """

    def setup(self, message: Message) -> None:
        self.check(message.max_iter > 0, f"max_iter is {message.max_iter}, it must be positive")
        self.last = np.float32(message.max_iter)
        self.power = np.float32(message.power)

    def rate(self, iteration: int) -> np.float32:
        remaining = np.float32(1) - np.float32(iteration) / self.last
        return self.base_lr * np.float32(power(remaining, float(self.power)))
