"""SoftmaxWithLossOHEM of R-FCN: the loss of SoftmaxWithLoss, and that of each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, register
from caffecompat.layers._loss import ClassScores
from caffecompat.layers.softmax_with_loss import SoftmaxWithLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# The smallest normal float.
_MIN_PROBABILITY = 2.0**-126


@register("SoftmaxWithLossOHEM", fork="R-FCN")
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """SoftmaxWithLoss with a third top: -log p(label) of each label, in the shape of the labels.

    Ignored labels have 0 there. The second top holds the probabilities. Neither passes a gradient.
    Source: softmax_loss_ohem_layer of R-FCN.
    """

    tops = between(1, 3)
    fork_fields = ("loss_param.pre_fixed_normalizer", "loss_param.normalization: PRE_FIXED")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        super().setup(message, bottoms)
        self.count = len(message.top)
        self.probabilities = True

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = super().forward(scores, labels)
        assert isinstance(found, tuple)
        if self.count < 3:
            return found if self.count > 1 else found[0]
        with_channel = found[1]
        view = ClassScores(self, with_channel, labels, self.along, self.normalization.ignore)
        losses = -view.scores.gather(1, view.labels).clamp(min=_MIN_PROBABILITY).log()
        if view.kept is not None:
            losses = losses.where(view.kept, 0)
        return (*found, losses.reshape(labels.shape))
