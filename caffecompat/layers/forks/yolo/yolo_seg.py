"""YoloSeg of MobileNet-YOLO: a loss of segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.yolo._loss_gradient import with_gradient

if TYPE_CHECKING:
    from torch import Tensor

_OBJECT = 0.5


@register("YoloSeg", fork="MobileNet-YOLO")
class YoloSeg(Loss):
    """sum(d^2) / N with d = object_scale * (sigmoid(x) - label); d / N is also the gradient.

    Bottoms: x and labels (N, C, H, W), and perhaps the number of pixels of each class (N, C). With
    these, d is multiplied by 2 - r where the label is above 0.5, with r the pixels of the class in
    the batch by all its other pixels. The original's gradient is not the derivative. Source:
    yolo_seg_layer of MobileNet-YOLO; ``class_scale``, ``num_class``, ``use_logic_gradient`` and
    ``use_hardsigmoid`` have no effect there.
    """

    bottoms = between(2, 3)
    differentiable = (True, False)
    fork_fields = ("yolo_seg_param",)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.scale = float(message.yolo_seg_param.object_scale)
        if len(bottoms) > 2:
            self.batch_coupling = "takes its weights of classes from the whole batch"

    def forward(self, x: Tensor, labels: Tensor, *counts: Tensor) -> Tensor:
        self.check_items(x, labels)
        self.check(
            x.dim() == 4 and all(c.numel() == x.shape[0] * x.shape[1] for c in counts),
            f"its first bottom is {format_shape(x.shape)}; expected N x C x H x W, and one number "
            "for each image and class in a third bottom",
        )
        truth = labels.detach().reshape(x.shape)
        gradient = self.scale * (x.detach().sigmoid() - truth)
        if counts:
            own = counts[0].detach().reshape(x.shape[:2])
            rest = x.shape[2] * x.shape[3] - own
            weight = (2 - own.sum(0) / rest.sum(0)).reshape(1, -1, 1, 1)
            gradient = gradient * weight.where(truth > _OBJECT, 1)
        images = max(len(x), 1)
        return with_gradient(x, gradient.square().sum() / images, gradient / images)
