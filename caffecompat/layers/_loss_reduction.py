"""How a loss depends on the number of samples in a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Count: TypeAlias = "Callable[[Sequence[Tensor]], Tensor]"


@dataclass(frozen=True)
class LossReduction:
    """How a loss comes from the samples of a batch, with the words of torch's losses.

    Several ranks that share a batch ask for it: the loss of the whole batch is the sum of what
    each rank computes from its rows, after a mean is multiplied by the rank's part of the divisor.

    Attributes:
        kind: ``"mean"``, ``"sum"`` or ``"unknown"``; what is unknown is taken for a mean over the
            batch, and the user is told.
        count: of a mean: a function of the layer's bottoms that gives how many values this pass
            divides by, as a 0-axis tensor; the layer divides by 1 where that is less. None where
            the divisor is proportional to the number of rows.
    """

    kind: Literal["mean", "sum", "unknown"]
    count: Count | None = None

    @classmethod
    def mean(cls, count: Count | None = None) -> LossReduction:
        """A loss that is divided by the rows, or by what ``count`` finds in the bottoms."""
        return cls("mean", count)

    @classmethod
    def sum(cls) -> LossReduction:
        """A loss that is not divided by anything that depends on the batch."""
        return cls("sum")

    @classmethod
    def unknown(cls) -> LossReduction:
        """A loss in code that cannot be asked."""
        return cls("unknown")
