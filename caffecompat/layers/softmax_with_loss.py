"""SoftmaxWithLoss: the multinomial logistic loss of a softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import TYPE_CHECKING, Any, ClassVar

from caffecompat.layers._base import ALONG_BATCH, Message, Shape, between, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._device_copies import DeviceCopies
from caffecompat.layers._loss import (
    PRE_FIXED_FIELDS,
    ClassScores,
    Loss,
    Normalization,
    check_labels,
)

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

    With SegNet's ``weight_by_label_freqs`` each position is multiplied by the value of
    ``class_weighting`` for its label, loss and gradient; the divisor does not change.

    A second top holds the probabilities; its gradient is ignored. Caffe documents this top, but its
    check of loss weights refuses it. Source: Caffe's SoftmaxWithLoss layer.
    """

    param_fields = ("softmax_param", "loss_param")
    tops = between(1, 2)
    fork_fields: ClassVar[tuple[str, ...]] = (
        *PRE_FIXED_FIELDS,
        "loss_param.weight_by_label_freqs",
        "loss_param.class_weighting",
        "softmax_param.normalize_type",
    )

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._given = message.softmax_param.axis
        self.along = self._along_in(bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None
        self.normalization = Normalization(message.loss_param)
        self.loss_reduction = self.normalization.reduction()
        self.class_labels = ClassLabels(bottoms[0][self.along], self.normalization.ignore)
        self.probabilities = len(message.top) > 1
        self.class_weights = self._class_weights(message.loss_param, bottoms[0][self.along])
        kind = message.softmax_param.normalize_type
        self.check(
            kind == "Softmax",
            f"normalize_type is {kind!r}, with which NormFace's Caffe divides the scores by their "
            "norm; only 'Softmax' is supported",
        )

    def _along_in(self, scores: Sequence[int]) -> int:
        """The class axis of scores of this shape; a resized input may have other axes."""
        return self.axis(self._given, scores, "softmax_param.axis")

    def prepare(self) -> None:
        self._sum_of_losses = _sum_of_losses()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        self.check_batch_shapes(scores, labels)
        check_labels(self, scores, labels, self._along_in(scores))
        return [(), scores] if self.probabilities else [()]

    def _class_weights(self, p: Message, classes: int) -> DeviceCopies | None:
        if not p.weight_by_label_freqs:
            return None
        self.check(
            len(p.class_weighting) == classes,
            f"class_weighting has {len(p.class_weighting)} values for {classes} classes; give one "
            "for each class",
        )
        return DeviceCopies(tuple(p.class_weighting))

    def _position_weights(self, view: ClassScores) -> Tensor | None:
        """Which positions count, or their weights."""
        if self.class_weights is None:
            return view.kept
        weights = self.class_weights.on(view.scores.device, view.exact)[view.labels]
        return weights if view.kept is None else weights * view.kept

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.check_batch(scores, labels)
        along = self._along_in(scores.shape)
        view = ClassScores(self, scores, labels, along, self.normalization.ignore)
        with view.naming_bad_labels(self):
            total: Tensor = self._sum_of_losses(
                view.scores, view.labels, self._position_weights(view)
            )
        loss = total / self.normalization.divisor(view.outer, view.inner, view.kept)
        if self.probabilities:
            return loss, scores.detach().softmax(along)
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


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """The values at positions that count, or multiplied by weights; ``weights`` bool or numbers."""
    import torch

    return values.where(weights, 0) if weights.dtype == torch.bool else values * weights


def _sum_of_losses() -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """-sum(weight log p(label)), as a function of scores, labels and weights.

    Scores and labels are those of a ClassScores; weights are its ``kept``, numbers in that shape,
    or None for 1. It has its own gradient, because Caffe's gradient
    ignores the clamp; the gradient takes one pass over p, that of log_softmax takes three.
    """
    import torch

    class SumOfLosses(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, scores: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
            p = _softmax(scores)
            at_labels = p.gather(1, labels)
            ctx.save_for_backward(p, at_labels, labels, weights)
            logs = at_labels.clamp(min=_MIN_PROBABILITY).log_()
            return -(logs if weights is None else _weighted(logs, weights)).sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None, None]:
            p, at_labels, labels, weights = ctx.saved_tensors
            weight = diff if weights is None else _weighted(diff, weights)
            return (p * weight).scatter_(1, labels, at_labels.sub(1).mul_(weight)), None, None

    return SumOfLosses.apply
