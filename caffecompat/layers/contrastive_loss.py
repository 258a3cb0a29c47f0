"""ContrastiveLoss: a loss on the distances of similar and dissimilar pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor


@register("ContrastiveLoss")
class ContrastiveLoss(Loss):
    """sum(s d² + (1 - s) max(0, margin - d)²) / 2N over N pairs at distance d.

    Bottoms: a and b (N, C), with up to two further axes of extent 1, and N similarities s; with one
    axis (N,) C is 1. s is truncated toward zero; a pair is similar if the result is not 0 (so 0.9
    is dissimilar). ``legacy_version`` uses max(0, margin - d²) for dissimilar pairs. As in
    Caffe the gradient of a dissimilar pair is divided by d + 1e-4 instead of d, which keeps it
    finite for equal vectors.
    Source: Caffe's ContrastiveLoss layer; Hadsell, Chopra and LeCun (2006).
    """

    bottoms = exactly(3)
    differentiable = (True, True, False)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.margin = message.contrastive_loss_param.margin
        self.legacy = message.contrastive_loss_param.legacy_version

    def forward(self, a: Tensor, b: Tensor, similarity: Tensor) -> Tensor:
        self._check_shapes(a, b, similarity)
        count = a.shape[0]
        difference = a.reshape(count, -1) - b.reshape(count, -1)
        squared = (difference * difference).sum(1)
        similar = similarity.detach().reshape(count).trunc() != 0
        apart = self._legacy(squared) if self.legacy else self._apart(squared)
        return squared.where(similar, apart).sum() / (2 * count)

    def _legacy(self, squared: Tensor) -> Tensor:
        return (self.margin - squared).relu()

    def _apart(self, squared: Tensor) -> Tensor:
        distance = squared.detach().sqrt()
        gap = (self.margin - distance).relu()
        return with_gradient_of(gap * gap, -gap / (distance + 1e-4) * squared)

    def _check_shapes(self, a: Tensor, b: Tensor, similarity: Tensor) -> None:
        shapes = ", ".join(format_shape(x.shape) for x in (a, b, similarity))
        self.check(
            all(1 <= x.dim() <= 4 and x.shape[2:].numel() == 1 for x in (a, b))
            and a.shape[:1] == b.shape[:1]
            and a.shape[1:].numel() == b.shape[1:].numel()
            and similarity.numel() == a.shape[0],
            f"its bottoms are {shapes}; two must be NxC (or NxCx1x1) and the third N similarities",
        )
