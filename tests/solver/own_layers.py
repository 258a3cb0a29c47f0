"""Layer types as a user writes them, for trainings; importing this file registers them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffecompat.layers import (
    ClassLabels,
    Layer,
    LossReduction,
    ReceptiveField,
    Shape,
    Source,
    exactly,
    register,
)


class OwnLoss(Layer):
    """Squared scores, of the rows whose label is not 2: their sum."""

    bottoms = exactly(2)
    is_loss = True
    automatic_top = True
    in_place = False
    differentiable = (True, False)

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        each = (scores * scores).flatten(1).sum(1)
        return each.where(labels.flatten() != 2, 0).sum()


@register("OwnSumLoss")
class OwnSumLoss(OwnLoss):
    """The sum, declared as such."""

    loss_reduction = LossReduction.sum()


@register("OwnMeanLoss")
class OwnMeanLoss(OwnLoss):
    """The sum divided by the rows of the batch."""

    loss_reduction = LossReduction.mean()

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        return super().forward(scores, labels) / len(scores)


@register("OwnCountedLoss")
class OwnCountedLoss(OwnLoss):
    """The sum divided by the rows that count."""

    ignored: ClassVar[int | None] = 2

    def setup(self, message: Any, bottoms: Sequence[Shape]) -> None:
        self.loss_reduction = LossReduction.mean(partial(_counted, other=2))
        self.class_labels = ClassLabels(2, self.ignored)

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        return super().forward(scores, labels) / _counted((scores, labels), 2).clamp(min=1)


@register("OwnSilentLoss")
class OwnSilentLoss(OwnLoss):
    """A mean that does not say so."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        return super().forward(scores, labels) / len(scores)


@register("OwnCentred")
class OwnCentred(Layer):
    """The bottom less its mean over the batch."""

    batch_coupling = "subtracts the mean of the whole batch"
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


@register("OwnShift")
class OwnShift(Layer):
    """Every second row, and the maximum of three of them."""

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField:
        return field.through((5, 1), (2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x.unfold(2, 5, 2).amax(-1)


@register("OwnUnsaid")
class OwnUnsaid(Layer):
    """As it comes, but who knows."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1


@register("OwnData")
class OwnData(Source):
    """Whole batches of running numbers."""

    batch_param = "data_param"

    def setup(self, message: Any, bottoms: Sequence[Shape]) -> None:
        self.shapes = [(self.batch_size(message) or 0, 3)]

    def read(self, index: int) -> list[Tensor]:
        rows = self.shapes[0][0]
        first = index * rows * 3
        return [torch.arange(first, first + rows * 3, dtype=torch.float32).view(rows, 3)]


def _counted(bottoms: Sequence[Tensor], other: int) -> Tensor:
    return (bottoms[1] != other).sum()
