"""The rate has a value for each stage, as in the Caffe of YOLO."""

from __future__ import annotations

import numpy as np

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies.base import Policy, register


@register("multifixed")
class MultiFixed(Policy):
    """``stagelr`` of the first stage whose ``stageiter`` is not below the iteration.

    After the last stage its rate stays. Source: the Caffe of YOLO, and Intel's.
    """

    fork_fields = ("stagelr", "stageiter")

    def setup(self, message: Message) -> None:
        self.rates = [np.float32(rate) for rate in message.stagelr]
        self.ends = list(message.stageiter)
        self.check(bool(self.rates), "stagelr is missing; give a rate for each stage")
        self.check(
            len(self.rates) == len(self.ends),
            f"stagelr has {len(self.rates)} values and stageiter {len(self.ends)}; give one of "
            "each for every stage",
        )

    def rate(self, iteration: int) -> np.float32:
        for rate, end in zip(self.rates, self.ends, strict=True):
            if iteration <= end:
                return rate
        return self.rates[-1]
