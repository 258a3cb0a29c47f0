"""InnerProduct: the fully connected layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, format_shape, register
from caffecompat.layers._receptive_field import ReceptiveField

if TYPE_CHECKING:
    from torch import Tensor


@register("InnerProduct")
class InnerProduct(Layer):
    """y = W x + b, where x are the values along the axes from ``axis`` on.

    Bottom (A, ..., B, ...) with ``axis`` at B becomes (A, ..., num_output). The weight is
    (num_output, K), or (K, num_output) with ``transpose``; K is the product of the extents from
    ``axis`` on. Source: Caffe's InnerProduct layer.

    Of forks: with NormFace's ``normalize`` each pass divides every row of the weight by its norm,
    sqrt(sum w^2 + 1e-6), and the gradient is that of the divided weight; in phase TEST the weight
    itself stays as it is. MyCaffe's ``min_top_axes`` appends axes of extent 1.
    """

    parameters = ("weight", "bias")
    in_place = False
    fork_fields: ClassVar[tuple[str, ...]] = (
        "inner_product_param.normalize",
        "inner_product_param.min_top_axes",
    )

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.inner_product_param
        self.check(
            p.HasField("num_output"),
            "num_output is missing; give it (DIGITS fills in the number of classes)",
        )
        self.check(p.num_output > 0, f"num_output is {p.num_output}, it must be positive")
        self._given = p.axis
        self.first = self.axis(p.axis, bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.first == 0 else None
        self.outputs = p.num_output
        self.inputs = prod(bottoms[0][self.first :])
        self.transpose = p.transpose
        self.normalize = p.normalize
        self.check(
            not (p.normalize and p.transpose), "normalize is for a weight that is not transposed"
        )
        self.least_axes = p.min_top_axes
        shape = (p.num_output, self.inputs)
        self.parameter("weight", shape[::-1] if p.transpose else shape, p.weight_filler)
        if p.bias_term:
            self.parameter("bias", (p.num_output,), p.bias_filler)

    def half_parameters(self) -> tuple[str, ...]:
        return ("weight",) if type(self) is InnerProduct and not self.normalize else ()

    def receptive_field(self, field: ReceptiveField) -> str:
        return "it uses its whole bottom"

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * self.inputs

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        top = (*bottoms[0][: self.axis(self._given, bottoms[0])], self.outputs)
        return [(*top, *(1,) * (self.least_axes - len(top)))]

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        import torch.nn.functional as F

        # A negative axis is another one after an input was resized to another number of axes.
        first = self.axis(self._given, x.shape)
        if prod(x.shape[first:]) != self.inputs:
            self.refuse(
                f"the weight takes {self.inputs} inputs, but the bottom is "
                f"{format_shape(x.shape)}; its input size is fixed; for inputs of other sizes "
                "write it as a Convolution, see 'Fully convolutional nets' in docs/python.md"
            )
        if self.transpose:
            weight = weight.t()
        if self.normalize:
            weight = normalized_rows(weight, in_place=self.training)
        y = F.linear(x.flatten(first), weight, bias)
        for _ in range(self.least_axes - y.dim()):
            y = y.unsqueeze(-1)
        return y


def normalized_rows(weight: Tensor, *, in_place: bool) -> Tensor:
    """The weight (N, K) with each row divided by its norm, sqrt(sum w^2 + 1e-6).

    Without a gradient of the division, as in NormFace's Caffe.
    """
    import torch

    with torch.no_grad():
        factor = (weight * weight).sum(1, keepdim=True).add_(1e-6).rsqrt_()
        return weight.mul_(factor) if in_place else weight * factor
