"""LabelSpecificAdd: the additive margin of AM-Softmax."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Layer, Message, Shape, between, exactly, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss import naming_bad_labels

if TYPE_CHECKING:
    from torch import Tensor


@register("LabelSpecificAdd", fork="AM-Softmax, NormFace")
class LabelSpecificAdd(Layer):
    """The scores, with ``bias`` added to that of the label where it is greater than -bias.

    Bottoms: scores (N, classes) and labels. Tops: the scores, and the bias (1,). In TEST the scores
    stay as they are. With ``bias_base`` the bias of pass i, counted from 0, is
    bias_base + (1 + bias_gamma (iteration + i))^bias_power - 1, between ``bias_min`` and
    ``bias_max``. Source: LabelSpecificAdd of the Caffe of NormFace and AM-Softmax.
    """

    bottoms = exactly(2)
    tops = between(1, 2)
    fork_fields = ("label_specific_add_param",)
    differentiable = (True, False)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.chosen = message.label_specific_add_param
        self.changes = self.chosen.HasField("bias_base")
        self.second = len(message.top) > 1
        self.classes = prod(bottoms[0][1:])
        self.class_labels = ClassLabels(self.classes, can_ignore=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        bias = self._bias(x)
        y = self._added(x, labels, bias)
        return (y, bias) if self.second else y

    def _added(self, x: Tensor, labels: Tensor, bias: Tensor) -> Tensor:
        flat = x.flatten(1)
        columns = labels.detach().long().reshape(-1, 1)
        with naming_bad_labels(self, self.classes):
            own = flat.detach().gather(1, columns)
        if not self.training:
            return x.view_as(x)
        added = (own > -bias).to(x.dtype) * bias
        return flat.scatter_add(1, columns, added).view_as(x)

    def _bias(self, x: Tensor) -> Tensor:
        p: Any = self.chosen
        if not self.changes:
            return x.new_full((1,), p.bias)
        passes = self.noise.position.to(x.device) + p.iteration
        growth = (1 + p.bias_gamma * passes.to(x.dtype)) ** p.bias_power
        bias: Tensor = (p.bias_base + growth - 1).clamp(p.bias_min, p.bias_max)
        return bias.reshape(1)
