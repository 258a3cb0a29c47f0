"""LayerNorm of Synopsys' Caffe: normalises each sample, with a factor and a summand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor


@register("LayerNorm", fork="Synopsys")
class SynopsysLayerNorm(Layer):
    """y = weight (x - mean) / sqrt(variance + ``eps``) + bias, over all axes but the first.

    The weight and the bias have the shape of one sample and begin as 1 and 0; with
    ``elementwise_affine: false`` there are none. Bottom and top (N, ...) have one shape. Synopsys'
    Caffe has no gradient for this type; here it is the derivative.
    Source: Synopsys' LayerNorm layer.
    """

    parameters = ("weight", "bias")
    in_place = False
    fork_fields = ("layer_norm_param",)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.layer_norm_param
        if p.HasField("epsilon") or p.HasField("enable_cuda_impl"):
            return False
        return True if p.HasField("eps") or p.HasField("elementwise_affine") else None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.layer_norm_param
        self.eps = float(p.eps)
        self.check(self.eps >= 0, f"eps is {self.eps:g}, it must not be negative")
        self.inside = tuple(bottoms[0][1:])
        self.check(bool(self.inside), "the bottom needs two axes or more")
        if p.elementwise_affine:
            one = new("FillerParameter")
            one.value = 1
            self.parameter("weight", self.inside, one)
            self.parameter("bias", self.inside, new("FillerParameter"))

    def forward(
        self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        import torch.nn.functional as F

        self.check(
            weight is None or tuple(x.shape[1:]) == self.inside,
            f"made for samples of {format_shape(self.inside)}, the bottom is "
            f"{format_shape(x.shape)}",
        )
        return F.layer_norm(x, x.shape[1:], weight, bias, self.eps)
