"""SoftmaxWithLoss: the multinomial logistic loss of a softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers.base import Message, Shape, between, register
from caffecompat.layers.loss import ClassScores, Loss, Normalization

if TYPE_CHECKING:
    from torch import Tensor

# The least normal float.
_LEAST = 2.0**-126


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
        self._mean_of_logs = _mean_of_logs()

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self.check_batch(scores, labels)
        view = ClassScores(self, scores, labels, self.along, self.normalization.ignore)
        divisor = self.normalization.divisor(view.outer, view.inner, view.kept)
        with view.labels_checked(self):
            loss: Tensor = self._mean_of_logs(view.scores, view.labels, view.kept, divisor)
        if self.probabilities:
            return loss, scores.detach().softmax(self.along)
        return loss


def _mean_of_logs() -> Callable[..., Tensor]:
    """The loss as a function of scores, labels, kept (see ClassScores) and divisor.

    Its gradient is written by hand because Caffe's knows nothing of the clamp. It also takes one
    pass over p, where the derivative of log_softmax takes three.
    """
    import torch

    class MeanOfLogs(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, scores: Tensor, labels: Tensor, kept: Tensor | None, divisor: Tensor | int
        ) -> Tensor:
            p = scores.softmax(1)
            at_labels = p.gather(1, labels)
            if kept is not None:
                at_labels = at_labels.where(kept, 1)
            ctx.save_for_backward(p, at_labels, labels, kept)
            ctx.divisor = divisor
            return -at_labels.clamp(min=_LEAST).log_().sum() / divisor

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None, None, None]:
            p, at_labels, labels, kept = ctx.saved_tensors
            weight = diff / ctx.divisor
            if kept is not None:
                weight = weight * kept
            at_labels = (at_labels - 1) * weight
            return (p * weight).scatter_(1, labels, at_labels), None, None, None

    return MeanOfLogs.apply
