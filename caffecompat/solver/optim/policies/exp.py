"""The rate decays by a factor per iteration."""

from __future__ import annotations

import numpy as np

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies.base import Policy, decayed, register


@register("exp")
class Exponential(Policy):
    """base_lr * gamma ^ iteration."""

    def setup(self, message: Message) -> None:
        self.check(message.gamma >= 0, f"gamma is {message.gamma:g}, it must not be negative")
        self.gamma = np.float32(message.gamma)

    def rate(self, iteration: int) -> np.float32:
        return decayed(self.base_lr, self.gamma, iteration)
