"""GeneralContrastiveLoss: hinges on distances to the centres of own and other classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, between, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss import Loss, naming_bad_labels
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("GeneralContrastiveLoss", fork="NormFace")
class GeneralContrastiveLoss(Loss):
    """(w+ sum min(outlier, max(0, d - m+)) + w- sum max(0, m- - d)) / N.

    The first sum is over the own class of each row, the second over the others.

    Bottoms: distances d (N, classes), labels (N,), and optionally distances to compute with, whose
    gradient goes to the first bottom. Tops: the loss, and the mean of the first sum's and of the
    second sum's terms, (2,). Settings: w+ ``positive_weight``, w- ``negative_weight``, m+
    ``positive_margin``, m- ``negative_margin``, outlier ``positive_outlier_thresh``.

    - ``exp_negative_weight``: exp(-d) instead of m- - d where d < m-.
    - ``positive_first``: rows whose own distance is above ``positive_upper_bound`` have no second
      sum; their own distance gets the gradient w+.
    - ``max_negative_only``: the greatest term of each row alone counts; the term of the first class
      takes part in the comparison even if it is that of the own class, as in the original.
    - ``max_positive_only``: the least term of the first sum alone counts.
    - ``normalize_negative``: a bound of the negative gradients' sum, relative to w+.
    - ``add_intra_mae``, a margin that changes with each pass, is refused.

    ``general_triplet_loss_param`` is for another type, GeneralTripletLoss, and has no effect here.

    Source: NormFace's GeneralContrastiveLoss layer.
    """

    bottoms = between(2, 3)
    tops = between(1, 2)
    param_fields = ("general_contrastive_loss_param",)
    fork_fields = ("general_contrastive_loss_param",)
    ignored_fork_fields = ("general_triplet_loss_param",)
    differentiable = (True, False, False)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.chosen = message.general_contrastive_loss_param
        self.check(
            not self.chosen.add_intra_mae,
            "add_intra_mae is set, which this type does not support; set negative_margin",
        )
        self.second = len(message.top) > 1
        self.classes = prod(bottoms[0][1:])
        self.check(self.classes > 1, "it needs at least two classes")
        self.class_labels = ClassLabels(self.classes, can_ignore=False)
        self.loss_reduction = LossReduction.mean()
        whole = self.chosen.max_positive_only or self.chosen.HasField("normalize_negative")
        self.batch_coupling = "compares the rows of the whole batch" if whole else None
        self._loss = _loss(self.chosen)

    def forward(self, x: Tensor, labels: Tensor, *given: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self.check_batch(x, labels)
        distances = (given[0] if given else x).detach().flatten(1)
        columns = labels.detach().long().reshape(-1, 1)
        with naming_bad_labels(self, self.classes):
            loss, means = self._loss(x.flatten(1), distances, columns)
        return (loss, means) if self.second else loss


def _loss(p: Message) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The loss and the two means, with the gradient of the first argument."""
    import torch

    class Contrast(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, d: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            weighted, own, near, far = _terms(p, d, labels)
            counts, too_far = _counted(p, weighted, own, d)
            ctx.save_for_backward(d, weighted, own, counts, too_far)
            kept = counts & (own | ~too_far)
            loss = (weighted * kept).abs().sum() / d.shape[0]
            means = (near * own).sum(), (far * ~own).sum() / (d.shape[1] - 1)
            return loss, torch.stack(means) / d.shape[0]

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
            d, weighted, own, counts, too_far = ctx.saved_tensors
            inside = (d > p.positive_margin) & (d < p.positive_outlier_thresh) & counts
            negative = (d < p.negative_margin) & counts & ~own & ~too_far
            size = weighted if p.exp_negative_weight else torch.full_like(d, p.negative_weight)
            pushed = size * negative
            if p.HasField("normalize_negative"):
                total = pushed.sum().abs() / p.normalize_negative / d.shape[0]
                pushed = torch.where(total > p.positive_weight, pushed / total, pushed)
            pulled = (own & (inside | too_far)) * p.positive_weight
            return (pulled - pushed) * (diff / d.shape[0]), None, None

    return Contrast.apply


def _terms(p: Message, d: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The terms of the loss (N, classes), which are own, and the unweighted terms."""
    import torch

    own = torch.zeros_like(d, dtype=torch.bool).scatter(1, labels, True)
    near = (d - p.positive_margin).clamp(0, p.positive_outlier_thresh)
    far = (p.negative_margin - d).clamp(min=0)
    other = torch.exp(-d) * (d < p.negative_margin) if p.exp_negative_weight else far
    weighted = torch.where(own, near * p.positive_weight, other * p.negative_weight)
    return weighted, own, near, far


def _counted(p: Message, weighted: Tensor, own: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Which terms count, (N, classes), and rows that are too far from their class (N, 1)."""
    import torch

    counts = torch.ones_like(own)
    too_far = (d * own).sum(1, keepdim=True) > p.positive_upper_bound
    too_far = too_far if p.positive_first else torch.zeros_like(too_far)
    if p.max_negative_only:
        compared = ~own
        compared[:, 0] = True
        best = weighted.masked_fill(~compared, -torch.inf)
        counts = counts & (own | _first(best == best.amax(1, keepdim=True), 1))
    if p.max_positive_only:
        mine = (weighted * own).sum(1)
        counts = counts & (~own | _first(mine == mine.amin(), 0).unsqueeze(1))
    return counts, too_far


def _first(marked: Tensor, along: int) -> Tensor:
    """The first true element along an axis."""
    return marked & (marked.cumsum(along) == 1)
