"""L1Loss of FlowNet: absolute or Euclidean errors of flow, with unknown values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.flow.losses._flow_error import FlowLoss

if TYPE_CHECKING:
    from torch import Tensor


@register("L1Loss", fork="FlowNet")
class FlowL1Loss(FlowLoss):
    """sum|d| / N for the difference d of two bottoms, or for one bottom.

    Bottoms: (N, C, H, W) each. Elements where d is NaN do not count, nor do those below
    ``plateau``. With ``l2_per_location`` each pixel has sqrt(sum over C of d^2 + epsilon), of which
    ``l2_prescale_by_channels`` divides the sum by C, and the plateau is that of the sum. With
    ``normalize_by_num_entries`` the divisor is the number of elements that are not NaN, divided by
    C. The gradient at d = 0 is that of a negative d, as in the original.
    Source: FlowNet's L1Loss layer.
    """

    param_fields = ("l1_loss_param",)
    fork_fields = ("l1_loss_param",)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        """NVCaffe's L1Loss has two bottoms and no settings."""
        return len(message.bottom) == 1 or message.HasField("l1_loss_param")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.l1_loss_param
        self.by_location = p.l2_per_location
        self.prescale = p.l2_prescale_by_channels
        self.epsilon, self.plateau = p.epsilon, p.plateau
        self.divide_by(p.normalize_by_num_entries)

    def forward(self, *bottoms: Tensor) -> Tensor:
        x = self.difference(bottoms)
        known = ~x.isnan()
        total = self._by_location(x.where(known, 0)) if self.by_location else self._sum(x, known)
        return total / self.divisor(known)

    def _sum(self, x: Tensor, known: Tensor) -> Tensor:
        import torch

        if self.plateau > 0:
            known = known & (x.detach().abs() >= self.plateau)
        sign = torch.where(x.detach() > 0, 1.0, -1.0).to(x.dtype)
        return (x * sign).where(known, 0).sum()

    def _by_location(self, x: Tensor) -> Tensor:
        squares = (x * x).sum(1)
        if self.prescale:
            squares = squares / x.shape[1]
        if self.plateau > 0:
            squares = squares.where(squares.detach() >= self.plateau**2, 0)
        return (squares + self.epsilon).sqrt().sum()
