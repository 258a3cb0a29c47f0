"""SoftmaxWithLoss: the multinomial logistic loss of a softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import ALONG_BATCH, Message, Shape, between, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss import ClassScores, Loss, Normalization

if TYPE_CHECKING:
    from torch import Tensor

# The smallest normal float.
_MIN_PROBABILITY = 2.0**-126


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(Loss):
    """-sum(log p(label)) / divisor, with p the softmax of the scores along ``softmax_param.axis``.

    Bottoms: scores (outer, classes, inner) and one label per position, in any shape whose first
    axis is that of the scores. Divisor: see :class:`Normalization`, VALID by default. The loss
    clamps p at the smallest normal float (a loss of 87.3365 per position), the gradient
    p - 1{label} does not.

    A second top holds the probabilities; its gradient is ignored. Caffe documents this top, but its
    check of loss weights refuses it. Source: Caffe's SoftmaxWithLoss layer.
    """

    param_fields = ("softmax_param", "loss_param")
    tops = between(1, 2)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.along = self.axis(message.softmax_param.axis, bottoms[0], "softmax_param.axis")
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None
        self.normalization = Normalization(message.loss_param)
        self.loss_reduction = self.normalization.reduction()
        self.class_labels = ClassLabels(bottoms[0][self.along], self.normalization.ignore)
        self.probabilities = len(message.top) > 1
        self._sum_of_losses = _sum_of_losses()

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.check_batch(scores, labels)
        view = ClassScores(self, scores, labels, self.along, self.normalization.ignore)
        with view.naming_bad_labels(self):
            total: Tensor = self._sum_of_losses(view.scores, view.labels, view.kept)
        loss = total / self.normalization.divisor(view.outer, view.inner, view.kept)
        if self.probabilities:
            return loss, scores.detach().softmax(self.along)
        return loss


def _softmax(scores: Tensor) -> Tensor:
    """p along axis 1, in 32 bits at least.

    On a CPU torch's softmax is fast along the last axis only; along another axis ``log_softmax``
    and ``exp2`` take two thirds of its time, with two to three times the rounding error in small p.
    """
    import torch

    exact = torch.promote_types(scores.dtype, torch.float32)
    if scores.dim() == 2 or scores.device.type != "cpu":
        return scores.softmax(1, dtype=exact)
    return scores.log_softmax(1, dtype=exact).mul_(1 / log(2)).exp2_()


def _sum_of_losses() -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """-sum(log p(label)) over the kept positions, as a function of scores, labels and kept.

    The arguments are those of a ClassScores. It has its own gradient, because Caffe's gradient
    ignores the clamp; the gradient takes one pass over p, that of log_softmax takes three.
    """
    import torch

    class SumOfLosses(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, scores: Tensor, labels: Tensor, kept: Tensor | None) -> Tensor:
            p = _softmax(scores)
            at_labels = p.gather(1, labels)
            ctx.save_for_backward(p, at_labels, labels, kept)
            logs = at_labels.clamp(min=_MIN_PROBABILITY).log_()
            return -(logs if kept is None else logs.where(kept, 0)).sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None, None]:
            p, at_labels, labels, kept = ctx.saved_tensors
            weight = diff if kept is None else diff.where(kept, 0)
            return (p * weight).scatter_(1, labels, at_labels.sub(1).mul_(weight)), None, None

    return SumOfLosses.apply
