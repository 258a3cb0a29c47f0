"""SigmoidCrossEntropyLoss: the loss of independent binary predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._exact_sigmoid import rounded_once
from caffecompat.layers._loss import PRE_FIXED_FIELDS, Loss, Normalization

if TYPE_CHECKING:
    from torch import Tensor


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Loss):
    """-sum(t log s(x) + (1 - t) log(1 - s(x))) / divisor, with s the logistic function.

    Bottoms: x and targets t with the same number of elements and the same first extent N. Divisor:
    see :class:`Normalization`, with BATCH_SIZE (N) as default. ``ignore_label`` is compared with
    the target truncated toward zero, so 0 also ignores 0.3.
    Source: Caffe's SigmoidCrossEntropyLoss layer.
    """

    param_fields = ("loss_param",)
    fork_fields = PRE_FIXED_FIELDS

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.normalization = Normalization(message.loss_param, default="BATCH_SIZE")
        self.loss_reduction = self.normalization.reduction()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.check_item_shapes(*bottoms)
        return [()]

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        self.check_items(x, targets)
        outer = x.shape[0]
        x, targets = x.reshape(outer, -1), targets.detach().reshape(outer, -1)
        ignore = self.normalization.ignore
        kept = None if ignore is None else targets.trunc() != ignore
        sum_of_losses = _with_gradient() if x.requires_grad else _sum_of_losses
        return sum_of_losses(x, targets, kept) / self.normalization.divisor(outer, x.shape[1], kept)


def _sum_of_losses(x: Tensor, targets: Tensor, kept: Tensor | None) -> Tensor:
    """The sum over the elements that are kept (None for all)."""
    import torch.nn.functional as F

    if kept is None:
        return F.binary_cross_entropy_with_logits(x, targets, reduction="sum")
    each = F.binary_cross_entropy_with_logits(x, targets, reduction="none")
    return each.where(kept, 0).sum()


@cache
def _with_gradient() -> Any:
    """:func:`_sum_of_losses` with the gradient s(x) - t, where s(x) is rounded as Caffe's.

    torch's own gradient loses the last digits of s(x) near 1, see :func:`rounded_once`.
    """
    import torch

    class SumOfLosses(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, targets: Tensor, kept: Tensor | None) -> Tensor:
            ctx.save_for_backward(x, targets, kept)
            return _sum_of_losses(x, targets, kept)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None, None]:
            x, targets, kept = ctx.saved_tensors
            gradient = rounded_once(x).sub_(targets)
            if kept is not None:
                gradient = gradient.where(kept, 0)
            return gradient.mul_(diff), None, None

    return SumOfLosses.apply
