"""CenterLoss: the distance of features to a learned centre of their class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss import Loss, naming_bad_labels
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._repeatable_gradients import added_up

if TYPE_CHECKING:
    from torch import Tensor


@register("CenterLoss", fork="caffe-face, NormFace")
class CenterLoss(Loss):
    """sum((x - c)^2) / (2 N), or with ``distance_type: "L1"`` sum|x - c| / N, c the label's centre.

    Bottoms: features (N, ...), merged from ``axis`` on into K values, and one label per feature.
    Parameter: centres (num_output, K). The gradient of a centre is not the derivative: it is the
    sum of centre - x (of its sign for L1) over the n features of its class, divided by n + 1, and
    it does not depend on ``loss_weight``. Source: caffe-face's CenterLoss layer; NormFace's adds
    ``distance_type``.
    """

    parameters = ("centers",)
    fork_fields = ("center_loss_param",)
    batch_coupling = "divides the gradients of its centers by counts in the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.center_loss_param
        self.check(p.num_output > 0, "num_output is missing or 0, it must be positive")
        self.check(
            p.distance_type in ("L1", "L2"),
            f"distance_type is {p.distance_type!r}, it must be 'L1' or 'L2'",
        )
        first = self.axis(p.axis, bottoms[0])
        self.check(first == 1, f"axis is {p.axis}, it must be 1: one label for each feature")
        self.classes = p.num_output
        self.loss_reduction = LossReduction.mean()
        self.class_labels = ClassLabels(self.classes, can_ignore=False)
        self.parameter("centers", (self.classes, prod(bottoms[0][first:])), p.center_filler)
        self._loss = _loss(p.distance_type == "L1")

    def forward(self, x: Tensor, labels: Tensor, *, centers: Tensor) -> Tensor:
        self.check_batch(x, labels)
        with naming_bad_labels(self, self.classes):
            loss: Tensor = self._loss(x.flatten(1), labels.detach().long().flatten(), centers)
        return loss


def _loss(absolute: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The loss as a function of features (N, K), labels (N,) and centres, with their gradients."""
    import torch

    class Distance(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
            difference = x - centers.index_select(0, labels)
            steps = difference.sign() if absolute else difference
            ctx.save_for_backward(steps, labels)
            ctx.shape = centers.shape
            total = difference.abs().sum() if absolute else (difference * difference).sum() / 2
            return total / x.shape[0]

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None, Tensor]:
            steps, labels = ctx.saved_tensors
            sums = added_up(-steps, labels, ctx.shape[0])
            counts = 1 + added_up(steps.new_ones(len(labels)), labels, ctx.shape[0])
            return steps * (diff / steps.shape[0]), None, sums / counts.unsqueeze(1)

    return Distance.apply
