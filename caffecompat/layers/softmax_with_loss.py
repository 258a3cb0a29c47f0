"""SoftmaxWithLoss: the multinomial logistic loss of a softmax."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING

from caffecompat.layers.base import Message, Shape, between, register
from caffecompat.layers.loss import ClassScores, Loss, Normalization

if TYPE_CHECKING:
    from torch import Tensor

# cross_entropy always ignores one label; no float label truncates to this one by accident.
_NO_LABEL = -(2**31)
# The least normal float is 2^-126.
_MOST = 126 * log(2)


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(Loss):
    """-sum(log p(label)) / divisor, with p the softmax of the scores along ``softmax_param.axis``.

    Bottoms: scores (outer, classes, inner) and one label per position, in any shape whose first
    axis is that of the scores. Divisor: see :class:`Normalization`, VALID by default. p is clamped
    at the least normal float (a loss of 87.3365 per position); the gradient p - 1{label} is not.

    A second top holds the probabilities, without a gradient of its own; Caffe documents it but
    fails its own check of loss weights there. Source: Caffe's SoftmaxWithLoss layer.
    """

    reads = ("softmax_param", "loss_param")
    tops = between(1, 2)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.along = self.axis(message.softmax_param.axis, bottoms[0], "softmax_param.axis")
        self.normalization = Normalization(message.loss_param)
        self.probabilities = len(message.top) > 1

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self.check_batch(scores, labels)
        view = ClassScores(self, scores, labels, self.along)
        each = self._each(view)
        divisor = self.normalization.divisor(view.outer, view.inner, view.labels)
        whole = isinstance(divisor, int) and divisor == each.numel()
        loss = each.mean() if whole else each.sum() / divisor
        if self.probabilities:
            return loss, scores.detach().softmax(self.along)
        return loss

    def _each(self, view: ClassScores) -> Tensor:
        import torch.nn.functional as F

        ignore = _NO_LABEL if self.normalization.ignore is None else self.normalization.ignore
        try:
            each = F.cross_entropy(view.scores, view.labels, ignore_index=ignore, reduction="none")
        except IndexError as problem:
            view.refuse_labels(self, problem)
            raise
        # What lies above the clamp (softshrink gives just that) is taken off as a constant, so that
        # it has no part in the gradient.
        return each - F.softshrink(each.detach(), _MOST)
