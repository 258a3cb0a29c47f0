"""The rate follows a sigmoid centred on ``stepsize``."""

from __future__ import annotations

import numpy as np

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies.base import Policy, register


@register("sigmoid")
class Sigmoid(Policy):
    """base_lr / (1 + exp(-gamma * (iteration - stepsize))); it grows, since gamma >= 0.

    Every operation is rounded to float32, as in Caffe with float parameters.
    """

    def setup(self, message: Message) -> None:
        self.check(message.gamma >= 0, f"gamma is {message.gamma:g}, it must not be negative")
        self.check(message.stepsize > 0, f"stepsize is {message.stepsize}, it must be positive")
        self.centre = np.float32(message.stepsize)
        self.gamma = np.float32(message.gamma)

    def rate(self, iteration: int) -> np.float32:
        one = np.float32(1)
        argument = -self.gamma * (np.float32(iteration) - self.centre)
        with np.errstate(over="ignore"):
            return self.base_lr * (one / (one + np.float32(np.exp(np.float64(argument)))))
