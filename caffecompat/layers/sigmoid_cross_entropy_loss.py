"""SigmoidCrossEntropyLoss: the loss of independent binary predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
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
        import torch.nn.functional as F

        self.check_items(x, targets)
        outer = x.shape[0]
        x, targets = x.reshape(outer, -1), targets.detach().reshape(outer, -1)
        if self.normalization.ignore is None:
            total = F.binary_cross_entropy_with_logits(x, targets, reduction="sum")
            return total / self.normalization.divisor(outer, x.shape[1], None)
        kept = targets.trunc() != self.normalization.ignore
        each = F.binary_cross_entropy_with_logits(x, targets, reduction="none")
        return each.where(kept, 0).sum() / self.normalization.divisor(outer, x.shape[1], kept)
