"""MultinomialLogisticLoss: the logistic loss of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss import ClassScores, Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Loss):
    """-sum(log p[label]) / N.

    Bottoms: probabilities (N, ...), where each value of an item is the probability of a class (they
    need not sum to 1), and N labels. p is clamped at 1e-20, also in the gradient -1 / p.
    Source: Caffe's MultinomialLogisticLoss layer. SoftmaxWithLoss combines it with Softmax.
    """

    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.class_labels = ClassLabels(prod(bottoms[0][1:]), can_ignore=False)

    def forward(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        self.check_label_per_item(probabilities, labels)
        count = probabilities.shape[0]
        view = ClassScores(self, probabilities.reshape(count, -1), labels, 1)
        with view.naming_bad_labels(self):
            p = view.scores.gather(1, view.labels)
        clamped = p.detach().clamp(min=1e-20)
        return with_gradient_of(-clamped.log(), -p / clamped).sum() / count
