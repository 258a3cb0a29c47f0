"""PReLU: the rectifier with a learned slope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor


@register("PReLU")
class PReLU(Layer):
    """y = max(x, 0) + a min(x, 0), with a slope per channel (axis 1), or one for all.

    Bottom and top (N, C, ...). The weight is (C,), or has no axes with ``channel_shared``; it is
    0.25 initially unless ``filler`` is given. The gradient at exactly 0 is the slope.
    Source: Caffe's PReLU layer; He et al. (2015).
    """

    parameters = ("weight",)
    keeps_shape = True
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.prelu_param
        self.check(
            len(bottoms[0]) > 1,
            f"the bottom is {format_shape(bottoms[0])}, it needs channels along axis 1",
        )
        shape = () if p.channel_shared else bottoms[0][1:2]
        self.parameter("weight", shape, p.filler if p.HasField("filler") else _quarter())

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        import torch.nn.functional as F

        self.check(
            weight.dim() == 0 or x.shape[1] == weight.shape[0],
            f"the slopes are {format_shape(weight.shape)}, but the bottom is "
            f"{format_shape(x.shape)}",
        )
        return F.prelu(x, weight)


def _quarter() -> Message:
    filler = new("FillerParameter")
    filler.value = 0.25
    return filler
