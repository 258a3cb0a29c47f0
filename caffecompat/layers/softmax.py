"""Softmax: probabilities from scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import ALONG_BATCH, CHANNEL_AXIS, Layer, Message, Shape, register
from caffecompat.layers._receptive_field import ReceptiveField

if TYPE_CHECKING:
    from torch import Tensor


@register("Softmax")
class Softmax(Layer):
    """y = exp(x) / sum(exp(x)) along ``axis``, 1 by default (not the last).

    Bottom and top have any shape. Source: Caffe's Softmax layer.
    """

    keeps_shape = True
    ignores_propagate_down = True
    # NormFace's SoftmaxWithLoss reads it, its Softmax does not.
    ignored_fork_fields = ("softmax_param.normalize_type",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._given = message.softmax_param.axis
        self.along = self.axis(self._given, bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField | str:
        return field if self.along == CHANNEL_AXIS else super().receptive_field(field)

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(self.axis(self._given, x.shape))
