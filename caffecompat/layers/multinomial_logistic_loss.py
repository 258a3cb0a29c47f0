"""MultinomialLogisticLoss: the logistic loss of given probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import format_shape, register
from caffecompat.layers._loss import ClassScores, Loss
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Loss):
    """-sum(log p[label]) / N.

    Bottoms: probabilities (N, ...), all of an item's values taken as classes, which need not sum
    to 1, and N labels. p is taken as 1e-20 where it is less, in the gradient -1 / p too.
    Source: Caffe's MultinomialLogisticLoss layer. Softmax and this in one: SoftmaxWithLoss.
    """

    def forward(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        self.check_batch(probabilities, labels)
        count = probabilities.shape[0]
        self.check(
            labels.numel() == count,
            f"{count} items need {count} labels, but the labels are {format_shape(labels.shape)}",
        )
        view = ClassScores(self, probabilities.reshape(count, -1), labels, 1)
        with view.labels_checked(self):
            p = view.scores.gather(1, view.labels)
        least = p.detach().clamp(min=1e-20)
        return with_gradient_of(-least.log(), -p / least).sum() / count
