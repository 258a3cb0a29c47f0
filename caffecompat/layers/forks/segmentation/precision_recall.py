"""PR: precision, recall and relatives of binary predictions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("PR", fork="ctensmeyer")
class PR(Layer):
    """Tops: precision, recall, accuracy, true negative rate and F measure, each with 0 axes.

    Bottoms: scores and labels of as many values. A score of ``thresh`` or more is a positive
    prediction, a label other than 0 a positive position; labels are truncated to integers.
    Positions with ``ignore_label`` do not count. Precision, recall and F measure without a position
    are 0; accuracy and true negative rate are not a number then. No gradient.
    Source: the PR layer of ctensmeyer's Caffe.
    """

    bottoms = exactly(2)
    tops = exactly(5)
    in_place = False
    differentiable = (False,)
    param_fields = ("precision_recall_param",)
    fork_fields = ("precision_recall_param",)
    batch_coupling = "divides sums over the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.precision_recall_param
        self.check(
            prod(bottoms[0]) == prod(bottoms[1]),
            f"the scores are {format_shape(bottoms[0])}, but the labels {format_shape(bottoms[1])}",
        )
        self.threshold = p.thresh
        self.ignore = p.ignore_label if p.HasField("ignore_label") else None

    def forward(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        import torch

        flat = labels.detach().flatten().trunc()
        counted = torch.ones_like(flat, dtype=torch.bool)
        if self.ignore is not None:
            counted = flat != self.ignore
        # The sums are exact in float64; in float32 the fork's stop at 16.8 million.
        predicted = scores.detach().flatten() >= self.threshold
        positive = flat != 0

        def count(chosen: Tensor) -> Tensor:
            return (chosen & counted).sum().to(scores.dtype)

        hits, false_alarms = count(predicted & positive), count(predicted & ~positive)
        misses, rejections = count(~predicted & positive), count(~predicted & ~positive)
        precision = hits / (hits + false_alarms).clamp(min=1)
        recall = hits / (hits + misses).clamp(min=1)
        accuracy = (hits + rejections) / (hits + false_alarms + rejections + misses)
        rate = rejections / (false_alarms + rejections)
        total = precision + recall
        measure = torch.where(total != 0, 2 * precision * recall / total, torch.zeros_like(total))
        return precision, recall, accuracy, rate, measure
