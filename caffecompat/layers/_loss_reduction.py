"""How a loss depends on the number of samples in a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

CountFunction: TypeAlias = "Callable[[Sequence[Tensor]], Tensor]"


@dataclass(frozen=True)
class LossReduction:
    """How a layer computes its loss from the samples of a batch, in the terms of torch's losses.

    Training on several ranks uses it: the loss of the whole batch is the sum of the losses of the
    ranks, after a mean has been multiplied by the rank's fraction of the divisor.

    Attributes:
        kind: ``"mean"``, ``"sum"`` or ``"unknown"``; an unknown reduction is treated as a mean
            over the batch, with a warning.
        count: for a mean, a function of the layer's bottoms that returns the divisor of this pass
            as a 0-axis tensor; the layer divides by at least 1. None if the divisor is proportional
            to the number of rows.
    """

    kind: Literal["mean", "sum", "unknown"]
    count: CountFunction | None = None

    @classmethod
    def mean(cls, count: CountFunction | None = None) -> LossReduction:
        """A loss that is divided by the number of rows, or by ``count`` of the bottoms."""
        return cls("mean", count)

    @classmethod
    def sum(cls) -> LossReduction:
        """A loss whose divisor does not depend on the batch."""
        return cls("sum")

    @classmethod
    def unknown(cls) -> LossReduction:
        """A loss that is computed by user code."""
        return cls("unknown")
