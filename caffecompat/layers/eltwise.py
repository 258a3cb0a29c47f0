"""Eltwise: sum, product or maximum of blobs, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers.base import Layer, Message, Shape, at_least, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Eltwise")
class Eltwise(Layer):
    """SUM (with ``coeff`` per bottom), PROD or MAX of bottoms of one shape; no broadcasting.

    Of equal values in MAX the second bottom beats the first, later ones must be strictly larger;
    the winner gets the whole gradient. ``stable_prod_grad: false``, which divides the product by
    the factor and so fails at zeros, is read as true. Source: Caffe's Eltwise layer.
    """

    bottoms = at_least(2)
    in_place = False

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.eltwise_param
        self.operation = p.EltwiseOp.Name(p.operation)
        self.check(
            len(p.coeff) in (0, len(bottoms)),
            f"coeff is given {len(p.coeff)} times for {len(bottoms)} bottoms; give one per bottom "
            "or none",
        )
        self.check(
            not (p.coeff and self.operation == "PROD"), "coeff is for operation SUM, not for PROD"
        )
        self.coefficients = tuple(p.coeff) or (1.0,) * len(bottoms)

    def forward(self, *bottoms: Tensor) -> Tensor:
        first, second, *others = bottoms
        for x in bottoms[1:]:
            self.check(
                x.shape == first.shape,
                f"its bottoms are {', '.join(format_shape(b.shape) for b in bottoms)}; they must "
                "have one shape",
            )
        if self.operation == "SUM":
            return self._sum(bottoms)
        if self.operation == "PROD":
            y = first * second
            for x in others:
                y = y * x
            return y
        y = _larger(first, second)
        for x in others:
            y = _larger(x, y)
        return y

    def _sum(self, bottoms: Sequence[Tensor]) -> Tensor:
        y = bottoms[0] if self.coefficients[0] == 1 else bottoms[0] * self.coefficients[0]
        for x, coefficient in zip(bottoms[1:], self.coefficients[1:], strict=True):
            y = y.add(x, alpha=coefficient)
        return y


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """``a`` where it is strictly larger, else ``b``; torch's maximum halves ties' gradients."""
    import torch

    return torch.where(a > b, a, b)
