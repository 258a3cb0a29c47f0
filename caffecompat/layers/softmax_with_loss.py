"""SoftmaxWithLoss: the multinomial logistic loss of a softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import TYPE_CHECKING, Any

from caffecompat.layers.base import Message, Shape, between, register
from caffecompat.layers.loss import ClassScores, Loss, Normalization

if TYPE_CHECKING:
    from torch import Tensor

# The least normal float, and the loss that it gives.
_LEAST = 2.0**-126
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
        self._sum_of_logs = _sum_of_logs()

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self.check_batch(scores, labels)
        view = ClassScores(self, scores, labels, self.along)
        with view.labels_checked(self):
            loss = self._loss(view)
        if self.probabilities:
            return loss, scores.detach().softmax(self.along)
        return loss

    def _loss(self, view: ClassScores) -> Tensor:
        import torch.nn.functional as F

        ignore, outer, inner = self.normalization.ignore, view.outer, view.inner
        if ignore is None:
            total: Tensor = self._sum_of_logs(view.scores, view.labels)
            return total / self.normalization.divisor(outer, inner, None)
        labels = view.labels.squeeze(1)
        each = F.cross_entropy(view.scores, labels, ignore_index=ignore, reduction="none")
        # Out of autograd's sight, since Caffe's gradient knows nothing of the clamp.
        each.detach().clamp_(max=_MOST)
        return each.sum() / self.normalization.divisor(outer, inner, labels != ignore)


def _sum_of_logs() -> Callable[[Tensor, Tensor], Tensor]:
    """-sum(log p(label)) as a function of scores and labels (see ClassScores), all of which count.

    Its gradient is written by hand because Caffe's knows nothing of the clamp, and it takes one
    pass over p, where the derivative of log_softmax takes three.
    """
    import torch

    class SumOfLogs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, scores: Tensor, labels: Tensor) -> Tensor:
            p = scores.softmax(1)
            at_labels = p.gather(1, labels)
            ctx.save_for_backward(p, at_labels, labels)
            return -at_labels.clamp(min=_LEAST).log_().sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None]:
            p, at_labels, labels = ctx.saved_tensors
            return (p * diff).scatter_(1, labels, (at_labels - 1) * diff), None

    return SumOfLogs.apply
