"""L1Loss of NVCaffe: the absolute errors that DetectNet learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("L1Loss", fork="NVCaffe, DetectNet")
class DetectNetL1Loss(Loss):
    """sum|a - b| / N for two bottoms a and b with the same number of elements.

    Source: NVCaffe's L1Loss layer.
    """

    differentiable = (True, True)
    loss_reduction = LossReduction.mean()

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        """FlowNet's L1Loss has settings, or one bottom."""
        return len(message.bottom) != 1 and not message.HasField("l1_loss_param")

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        self.check_items(a, b)
        return (a - b.reshape(a.shape)).abs().sum() / a.shape[0]
