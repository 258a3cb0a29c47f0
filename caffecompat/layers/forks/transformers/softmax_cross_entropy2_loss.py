"""SoftmaxCrossEntropy2Loss of MyCaffe: a softmax loss along any axis."""

from __future__ import annotations

from typing import ClassVar

from caffecompat.layers._base import exactly, register
from caffecompat.layers.softmax_with_loss import SoftmaxWithLoss


@register("SoftmaxCrossEntropy2Loss", fork="MyCaffe")
class SoftmaxCrossEntropy2Loss(SoftmaxWithLoss):
    """-sum(log p(label)) / divisor, with p the softmax of the scores along ``softmax_param.axis``.

    It is the loss of SoftmaxWithLoss, with the same divisors: BATCH_SIZE divides by the product of
    the extents before the class axis, N T for scores (N, T, classes) along axis 2. Its second top
    is not supported. Source: MyCaffe's SoftmaxCrossEntropy2Loss layer, whose logarithm has no
    clamp of its own.
    """

    tops = exactly(1)
    fork_fields: ClassVar[tuple[str, ...]] = ()
