"""GeneralTripletLoss of NormFace: a loss on distances to class centres."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, format_shape, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss import Loss, naming_bad_labels
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor


@register("GeneralTripletLoss", fork="NormFace")
class GeneralTripletLoss(Loss):
    """Distances to other classes should be those to the own class and ``margin`` at least.

    Bottoms: distances d (N, C, ...), C numbers for each item, labels (N), and perhaps weights of
    the items (N) that count in the gradient only. Tops: the loss, the sum of ``negative_weight``
    max(0, d_own + margin - d_other) divided by N, and perhaps the mean distances to own and other
    classes (2). With ``hardest_only`` only the largest term of an item counts. With
    ``positive_first`` an item whose d_own is above ``positive_upper_bound`` has no terms.

    The gradient of a positive term is -``negative_weight`` for d_other. That of d_own is
    ``positive_weight`` if ``add_center_loss`` is set, the item has a positive term, or its d_own is
    above that bound; each is divided by N. Source: general_triplet_loss_layer.cpp of NormFace.
    """

    bottoms = between(2, 3)
    tops = between(1, 2)
    fork_fields = ("general_triplet_loss_param",)
    differentiable = (True, False, False)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = message.general_triplet_loss_param
        self.with_distances = len(message.top) > 1
        shape = bottoms[0]
        count = prod(shape[1:])
        self.check(
            len(shape) > 1 and count > 1,
            f"the bottom is {format_shape(shape)}; expected distances to 2 classes or more",
        )
        self.class_labels = ClassLabels(count, can_ignore=False)

    def forward(
        self, distances: Tensor, labels: Tensor, *weights: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        import torch

        for numbers in (labels, *weights):
            self.check_batch(distances, numbers)
        d = distances.flatten(1)
        count, classes = d.shape
        index = labels.detach().long().reshape(count, 1)
        with naming_bad_labels(self, classes):
            own = d.gather(1, index)
            others = torch.ones_like(d, dtype=torch.bool).scatter(1, index, False)
        terms = (own + self.p.margin - d).clamp(min=0) * self.p.negative_weight * others
        counted = others & (own + self.p.margin > d)
        if self.p.hardest_only:
            hardest = torch.zeros_like(counted).scatter(1, terms.argmax(1, keepdim=True), True)
            counted = counted & hardest
        far = own > self.p.positive_upper_bound if self.p.positive_first else None
        if far is not None:
            counted = counted & ~far
        value = (terms * counted).detach().abs().sum() / count
        loss = with_gradient_of(value, self._surrogate(d, own, counted, far, weights))
        if not self.with_distances:
            return loss
        means = (own.sum() / count, (d * others).sum() / count / (classes - 1))
        return loss, torch.stack(means).detach()

    def _surrogate(
        self,
        d: Tensor,
        own: Tensor,
        counted: Tensor,
        far: Tensor | None,
        weights: tuple[Tensor, ...],
    ) -> Tensor:
        """A sum that has the gradient."""
        active = counted.any(1, keepdim=True)
        if self.p.add_center_loss:
            active = active | True
        elif far is not None:
            active = active | far
        terms = self.p.positive_weight * own * active
        terms = terms.sum(1) - self.p.negative_weight * (d * counted).sum(1)
        if weights:
            terms = terms * weights[0].detach().reshape(-1)
        return terms.sum() / len(d)
