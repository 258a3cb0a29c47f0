"""LocallyConnectedWithLoss: the loss of the classifiers of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._surrogate_gradient import with_gradient_of
from caffecompat.layers.forks.masks._grid_classifiers import interpolated, read_grid

if TYPE_CHECKING:
    from torch import Tensor

# Caffe's FLT_MIN.
_SMALLEST = 1.1754943508222875e-38
_IGNORED = -1


@register("LocallyConnectedWithLoss", fork="SDS, hypercolumns")
class LocallyConnectedWithLoss(Loss):
    """The log loss of LocallyConnected, weighted for each item: a sum over pixels, divided by N.

    Bottoms: scores (N, M ``grid_size``^2, H, W), labels (N, M, H, W) and weights of the N items.
    With the interpolated probability p, a pixel adds -``pos_loss_wt`` log p where its label is
    above 1/2, -``neg_loss_wt`` log(1 - p) elsewhere, and nothing where it is -1. The gradient is
    that of the sum with both weights 1, neither divided by N nor weighted, as in the original.
    Source: local_layer_simple of the Caffe of hypercolumns.
    """

    bottoms = exactly(3)
    differentiable = (True, False, False)
    param_fields = ("local_layer_param",)
    fork_fields = ("local_layer_param",)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.local_layer_param
        self.grid = read_grid(self, p.grid_size)
        self.positive, self.negative = float(p.pos_loss_wt), float(p.neg_loss_wt)

    def forward(self, scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        import torch

        p = interpolated(self, scores, self.grid)
        self.check(
            labels.shape == p.shape and weights.numel() == p.shape[0],
            f"its labels are {format_shape(labels.shape)} and its weights "
            f"{format_shape(weights.shape)}; expected {format_shape(p.shape)} and {p.shape[0]}",
        )
        of_items = weights.reshape(-1, 1, 1, 1)
        yes = p.clamp(min=_SMALLEST).log()
        no = (1 - p).clamp(min=_SMALLEST).log()
        counted = labels != _IGNORED
        plain = -of_items * torch.where(labels > 0.5, yes, no) * counted
        factor = torch.where(labels > 0.5, self.positive, self.negative)
        return with_gradient_of((plain * factor).sum() / p.shape[0], plain.sum())
