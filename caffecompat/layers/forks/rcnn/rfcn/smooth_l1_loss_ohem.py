"""SmoothL1LossOHEM of R-FCN: a smooth L1 loss that also tells the loss of each region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, format_shape, register
from caffecompat.layers._loss import Loss, Normalization

if TYPE_CHECKING:
    from torch import Tensor


@register("SmoothL1LossOHEM", fork="R-FCN")
class SmoothL1LossOHEM(Loss):
    """sum(e(w * (x - t))) / divisor, with e(d) = d^2 / 2 for \\|d\\| < 1 and \\|d\\| - 1/2 beyond.

    Bottoms: predictions x (R, C, H, W), targets t, and perhaps weights w of the same shape. Tops:
    the loss, and the loss of each region (R, 1, H, W), summed over channels, which has no gradient.
    Divisor by ``loss_param``: R * H * W for FULL and VALID, R for BATCH_SIZE, 1 for NONE,
    ``pre_fixed_normalizer`` for PRE_FIXED; at least 1. The weights count in the loss but, as in
    the original, not once more in the gradient: that of x is e'(w * (x - t)) / divisor.
    Source: smooth_L1_loss_ohem_layer of R-FCN, which runs on a GPU only.
    """

    bottoms = between(2, 3)
    tops = between(1, 2)
    differentiable = (True, True, False)
    param_fields = ("loss_param",)
    fork_fields = ("loss_param.pre_fixed_normalizer", "loss_param.normalization: PRE_FIXED")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.normalization = Normalization(message.loss_param)
        self.loss_reduction = self.normalization.reduction()
        self.per_region = len(message.top) > 1

    def forward(
        self, x: Tensor, target: Tensor, *weights: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        for other in (target, *weights):
            self.check(
                other.numel() == x.numel() and other.shape[:1] == x.shape[:1],
                f"its bottoms are {format_shape(x.shape)} and {format_shape(other.shape)}; all "
                "must have one shape",
            )
        difference = x - target.reshape(x.shape)
        if weights:
            weight = weights[0].detach().reshape(x.shape)
            # The value is weighted; the gradient passes as if it were not.
            difference = difference + (difference * (weight - 1)).detach()
        size = difference.abs()
        errors = (0.5 * difference * difference).where(size < 1, size - 0.5)
        inner = x[0, 0].numel() if x.dim() > 1 and x.numel() else 1
        loss = errors.sum() / self.normalization.divisor(x.shape[0], inner, None)
        if not self.per_region:
            return loss
        shape = (x.shape[0], 1, *(*x.shape[2:], 1, 1)[:2])
        return loss, errors.detach().sum(1).reshape(shape)
