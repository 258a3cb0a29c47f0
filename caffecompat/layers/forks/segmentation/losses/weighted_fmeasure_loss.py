"""WeightedFmeasureLoss: one minus the pseudo F-measure of document binarization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, exactly, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("WeightedFmeasureLoss", fork="document binarization")
class WeightedFmeasureLoss(Loss):
    """The mean over the images of 1 - F, with F = 2 R P / (R + P).

    Bottoms: probabilities B, the truth G (0 or 1), weights of recall and of precision, all
    (N, 1, H, W). Per image R = sum(B G W_r) / sum(G W_r) and P = sum(B G W_p) / sum(B W_p), 0 where
    the divisor is 0. Where R + P is 0, as in an image without foreground, the loss of the image is
    sum(W_p B²) / (2 sum(W_p)). With 0 < ``margin`` < 0.5 a probability that is right by at least
    the margin, from 0.5 + margin on for foreground, counts as the truth. A second top (N, 1) holds
    F. Only the probabilities get a gradient, the derivative of the loss.
    Source: the WeightedFmeasureLoss layer of the DIBCO nets.
    """

    bottoms = exactly(4)
    tops = between(1, 2)
    differentiable = (True, False)
    fork_fields = ("weighted_fmeasure_loss_param",)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.weighted_fmeasure_loss_param
        self.margin = p.margin
        self.scores = len(message.top) > 1

    def forward(
        self, probability: Tensor, truth: Tensor, recall_weight: Tensor, precision_weight: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        import torch

        bottoms = (probability, truth, recall_weight, precision_weight)
        self.check(
            len({x.numel() for x in bottoms}) == 1 and len({x.shape[:1] for x in bottoms}) == 1,
            f"its bottoms are {', '.join(format_shape(x.shape) for x in bottoms)}; they must have "
            "equally many images and elements",
        )
        b, g, w_r, w_p = (x.flatten(1) for x in bottoms)
        if 0 < self.margin < 0.5:
            right = torch.where(g > 0.5, b >= 0.5 + self.margin, b <= 0.5 - self.margin)
            b = g.where(right, b)
        recall = _ratio((b * g * w_r).sum(1), (g * w_r).sum(1))
        precision = _ratio((b * g * w_p).sum(1), (b * w_p).sum(1))
        f = 2 * recall * _ratio(precision, recall + precision)
        background = (w_p * b * b).sum(1) / (2 * w_p.abs().sum(1))
        loss = (1 - f).where(recall + precision != 0, background).mean()
        return (loss, f.detach().unsqueeze(1)) if self.scores else loss


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and 0 where the denominator is 0."""
    zero = denominator == 0
    return (numerator / denominator.masked_fill(zero, 1)).masked_fill(zero, 0)
