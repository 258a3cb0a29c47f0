"""Accuracy: the fraction of correct predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import (
    ALONG_BATCH,
    Layer,
    Message,
    Shape,
    between,
    exactly,
    format_shape,
    register,
)
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss import ClassScores, check_labels

if TYPE_CHECKING:
    from torch import Tensor


@register("Accuracy")
class Accuracy(Layer):
    """The fraction of positions whose label is among the ``top_k`` best classes.

    Bottoms: scores (outer, classes, inner) with classes along ``axis``, and a label per position.
    A position is correct if fewer than ``top_k`` other classes have a score that is greater than or
    equal to that of the label: a constant prediction has accuracy 0. Positions with
    ``ignore_label`` do not count; the accuracy of 0 positions is 0. First top: 0 axes. Second top
    (classes,): accuracy per class, 0 for classes without a position. No gradient.
    With NormFace's ``min_is_better`` the lowest scores are the best.
    Source: Caffe's Accuracy layer.
    """

    fork_fields = ("accuracy_param.min_is_better",)

    bottoms = exactly(2)
    tops = between(1, 2)
    in_place = False
    differentiable = (False,)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.accuracy_param
        self._given = p.axis
        self.along = self.axis(p.axis, bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None
        self.top_k = p.top_k
        self.lowest = p.min_is_better
        self.ignore = p.ignore_label if p.HasField("ignore_label") else None
        self.per_class = len(message.top) > 1
        self.class_labels = ClassLabels(
            bottoms[0][self.along], self.ignore, ignore_in="accuracy_param"
        )
        self._check_top_k(bottoms[0])

    def _check_top_k(self, scores: Sequence[int]) -> int:
        """The class axis of scores of this shape, which have ``top_k`` classes at least."""
        along = self.axis(self._given, scores)
        classes = scores[along]
        self.check(
            self.top_k <= classes,
            f"top_k is {self.top_k}, but the scores {format_shape(scores)} have {classes} "
            f"classes along axis {along}",
        )
        return along

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        along = self.axis(self._given, scores)
        check_labels(self, scores, labels, along)
        return [(), (scores[along],)] if self.per_class else [()]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        import torch

        along = self._check_top_k(scores.shape)
        scores = -scores.detach() if self.lowest else scores.detach()
        view = ClassScores(self, scores, labels, along, self.ignore)
        with view.naming_bad_labels(self):
            true = view.scores.gather(1, view.labels)
        # A comparison that writes floats takes a quarter of the time of one that writes bools.
        at_least_true = torch.ge(
            view.scores, true, out=torch.empty_like(view.scores, dtype=view.exact)
        )
        others = at_least_true.sum(1, keepdim=True) - 1
        correct = (others < self.top_k).to(scores.dtype)
        counted = correct.new_ones(()) if view.kept is None else view.kept.to(scores.dtype)
        counted = counted.expand_as(correct)
        correct = correct * counted
        share = correct.sum() / counted.sum().clamp(min=1)
        if not self.per_class:
            return share
        zeros = scores.new_zeros(view.classes)
        hits = zeros.scatter_add(0, view.labels.flatten(), correct.flatten())
        present = zeros.scatter_add(0, view.labels.flatten(), counted.flatten())
        return share, hits / present.clamp(min=1)
