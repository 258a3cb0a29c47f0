"""What forks do to the rate of any policy: a rise in the first iterations, a lower bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from caffecompat.proto.schema import Message

# Fields of the SolverParameter that are supported with any policy.
FORK_FIELDS = ("warmup_iter", "warmup_start_lr", "rampup_interval", "rampup_lr", "min_lr")


@dataclass(frozen=True)
class RateLimits:
    """How a policy's rate is changed.

    - ``warmup_iter`` (Intel): in the first iterations a straight line from ``warmup_start_lr`` to
      ``base_lr``.
    - ``rampup_interval`` (NVCaffe): in the first iterations a parabola from ``rampup_lr`` to
      ``base_lr``.
    - ``min_lr`` (NVCaffe): no rate is lower; where it is not given, a negative ``base_lr`` gives
      negative rates, as in BVLC Caffe. With policy poly the rate falls to it instead of to 0,
      as (base_lr - min_lr) (1 - iteration / max_iter)^power + min_lr.

    The policy is asked for its rate in every iteration, so that its steps count. In the original a
    step that falls into the first iterations is taken after them, one in each iteration.
    """

    base: np.float32
    warmup: int
    warmup_start: np.float32
    rampup: int
    rampup_start: np.float32
    least: np.float32
    falls_to_least: bool

    @classmethod
    def of(cls, message: Message) -> RateLimits:
        """The limits in a SolverParameter."""
        return cls(
            np.float32(message.base_lr),
            message.warmup_iter,
            np.float32(message.warmup_start_lr),
            message.rampup_interval,
            np.float32(message.rampup_lr),
            np.float32(message.min_lr) if message.HasField("min_lr") else -np.float32(np.inf),
            message.lr_policy == "poly" and message.min_lr > 0,
        )

    def applied(self, rate: np.float32, iteration: int) -> np.float32:
        """The rate of ``iteration`` (counted from 0), given the policy's."""
        one = np.float32(1)
        if iteration < self.warmup:
            total = np.float32(self.warmup)
            passed = np.float32(iteration)
            sums = passed * self.base + (total - passed) * self.warmup_start
            return max(sums / total, self.least)
        if iteration < self.rampup:
            share = np.float32(iteration) / np.float32(self.rampup)
            rise = (self.base - self.rampup_start) * share * share
            return max(self.rampup_start + rise, self.least)
        if self.falls_to_least and self.base:
            rate = rate * (one - self.least / self.base) + self.least
        return max(rate, self.least)


def misfits(message: Message) -> Iterator[str]:
    """What is impossible in the fields of :data:`FORK_FIELDS`, one sentence each."""
    for name in ("warmup_iter", "rampup_interval"):
        if getattr(message, name) < 0:
            yield f"{name} is {getattr(message, name)}, it must not be negative"
    if message.min_lr < 0:
        yield f"min_lr is {message.min_lr:g}, it must not be negative"
    if message.warmup_iter > 0 and message.rampup_interval > 0:
        yield "warmup_iter (Intel) and rampup_interval (NVCaffe) exclude each other"
    given = message.HasField("min_lr") and message.lr_policy == "poly"
    if given and message.base_lr < message.min_lr:
        yield f"min_lr is {message.min_lr:g}, above base_lr {message.base_lr:g}"
