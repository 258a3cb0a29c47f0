"""The schedule of FlowNet's augmentation: how much of a spread applies in an iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# exp(-rate) = 1/3, for which the schedule has come half the way.
_RATE = 1.0986


@dataclass(frozen=True)
class Schedule:
    """The settings of CoeffScheduleParameter."""

    half_life: float
    initial: float
    final: float

    @classmethod
    def of(cls, p: Any) -> Schedule:
        """From the message ``p``."""
        return cls(p.half_life, p.initial_coeff, p.final_coeff)

    def factor(self, iteration: Tensor) -> Tensor:
        """The factor of spreads in ``iteration``, which counts from 1."""
        way = 2 / (1 + (-_RATE * iteration / self.half_life).exp()) - 1
        return self.initial + (self.final - self.initial) * way
