"""Dropout: random elements set to 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers._operation import Drop

if TYPE_CHECKING:
    from torch import Tensor


def passes_on(message: Message) -> bool:
    """Whether a Dropout layer with this LayerParameter returns its bottom in phase TEST."""
    p = message.dropout_param
    return bool(p.dropout_ratio == 0 or (p.scale_train and not p.sample_weights_test))


@register("Dropout")
class Dropout(Layer):
    """y = x / (1 - ratio) with probability 1 - ratio, else 0; in TEST y = x.

    Bottom and top have any shape. The mask depends on the run's seed, the layer's name, the pass
    and the element only. With the forks' ``scale_train: false`` y is x or 0 in TRAIN and
    (1 - ratio) x in TEST; with Bayesian SegNet's ``sample_weights_test`` TEST drops values as TRAIN
    does. Source: Caffe's Dropout layer.
    """

    keeps_shape = True
    pointwise = True
    fork_fields = ("dropout_param.scale_train", "dropout_param.sample_weights_test")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.dropout_param
        self.ratio = p.dropout_ratio
        self.scale_train = p.scale_train
        self.passes_on = passes_on(message)
        self.drops = self.training or p.sample_weights_test
        self.check(0 <= self.ratio < 1, f"dropout_ratio is {self.ratio:g}, it must be in [0, 1)")

    def fusible_operation(self) -> Drop | None:
        if type(self) is not Dropout or self.ratio == 0 or not self.drops:
            return None
        return Drop(1 - self.ratio, 1 / (1 - self.ratio) if self.scale_train else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        if self.ratio == 0:
            return x
        if not self.drops:
            return x if self.scale_train else x * (1 - self.ratio)
        keep = self.noise.keep(x, 1 - self.ratio).to(x.dtype)
        return x * (keep.mul_(1 / (1 - self.ratio)) if self.scale_train else keep)
