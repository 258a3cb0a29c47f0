"""What FlowNet's losses share: a difference with unknown elements, and what divides its sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import between, format_shape
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


class FlowLoss(Loss):
    """A loss of the difference of two bottoms (N, C, H, W), or of the only one.

    Elements that are NaN are unknown. The sum is divided by N, or, ``by_entries``, by the number of
    known elements divided by C.
    """

    bottoms = between(1, 2)
    differentiable = (True, True)

    def divide_by(self, entries: bool) -> None:
        """Chooses the divisor."""
        self.by_entries = entries
        self.loss_reduction = (
            LossReduction.mean(_count_entries) if entries else LossReduction.mean()
        )

    def difference(self, bottoms: Sequence[Tensor]) -> Tensor:
        """The difference, or the only bottom."""
        if len(bottoms) == 1:
            return bottoms[0]
        first, second = bottoms
        self.check(
            first.shape == second.shape,
            f"its bottoms are {format_shape(first.shape)} and {format_shape(second.shape)}; "
            "they must have one shape",
        )
        return first - second

    def divisor(self, known: Tensor) -> Tensor | int:
        """What the sum over the ``known`` elements, a bool (N, C, H, W), is divided by."""
        import torch

        if not self.by_entries:
            return known.shape[0]
        # Without any entry the original divides 0 by 0.
        return (known.sum() / known.shape[1]).clamp(min=torch.finfo(torch.float32).tiny)


def _count_entries(bottoms: Sequence[Tensor]) -> Tensor:
    x = bottoms[0] if len(bottoms) == 1 else bottoms[0] - bottoms[1]
    return (~x.detach().isnan()).sum()
