"""Eltwise: sum, product or maximum of blobs, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Layer, Message, Shape, at_least, format_shape, register
from caffecompat.layers._transforms import is_transformed

if TYPE_CHECKING:
    from torch import Tensor


@register("Eltwise")
class Eltwise(Layer):
    """SUM (with ``coeff`` per bottom), PROD or MAX of bottoms of the same shape; no broadcasting.

    SUM of one bottom, which FlowNet's Caffe accepts, multiplies it by its ``coeff``.

    MAX takes the second bottom if it equals the first; further bottoms must be strictly greater.
    The bottom that is taken gets the whole gradient. ``stable_prod_grad: false``, which divides
    the product by the factor and so fails at zeros, has the effect of true.
    With MyCaffe's ``allow_single_batch_input`` there are two bottoms, and the second has one
    sample, which counts for each sample of the first. Source: Caffe's Eltwise layer.
    """

    fork_fields = ("eltwise_param.allow_single_batch_input",)

    bottoms = at_least(1)
    in_place = False
    pointwise = True

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
        self.check(
            len(bottoms) > 1 or (self.operation == "SUM" and not self.context.options.strict),
            "takes at least 2 bottom(s), found 1",
        )
        self.one_sample = p.allow_single_batch_input
        self.check(
            len(bottoms) == 2 or not self.one_sample,
            f"allow_single_batch_input is for two bottoms, found {len(bottoms)}",
        )
        self.coefficients = tuple(p.coeff) or (1.0,) * len(bottoms)

    def prepare(self) -> None:
        self._larger = _larger()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.one_sample:
            self._check_one_sample(*bottoms)
        else:
            self._check_equal(bottoms)
        return [bottoms[0]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        if self.one_sample:
            bottoms = (bottoms[0], self._for_each_sample(*bottoms))
        self._check_equal([x.shape for x in bottoms])
        first, *rest = bottoms
        if self.operation == "SUM":
            return self._sum(bottoms)
        second, *others = rest
        if self.operation == "PROD":
            y = first * second
            for x in others:
                y = y * x
            return y
        y = self._larger(first, second)
        for x in others:
            y = self._larger(x, y)
        return y

    def _check_equal(self, shapes: Sequence[Sequence[int]]) -> None:
        self.check(
            all(shape == shapes[0] for shape in shapes),
            f"its bottoms are {', '.join(map(format_shape, shapes))}; they must "
            "have the same shape",
        )

    def _check_one_sample(self, first: Sequence[int], second: Sequence[int]) -> None:
        self.check(
            tuple(second) == (1, *first[1:]),
            f"its bottoms are {format_shape(first)} and {format_shape(second)}; with "
            "allow_single_batch_input the second must have one sample of the first one's shape",
        )

    def _for_each_sample(self, first: Tensor, second: Tensor) -> Tensor:
        self._check_one_sample(first.shape, second.shape)
        return second.expand_as(first)

    def _sum(self, bottoms: Sequence[Tensor]) -> Tensor:
        y = bottoms[0] if self.coefficients[0] == 1 else bottoms[0] * self.coefficients[0]
        for x, coefficient in zip(bottoms[1:], self.coefficients[1:], strict=True):
            y = y.add(x, alpha=coefficient)
        return y


def _larger() -> Callable[[Tensor, Tensor], Tensor]:
    """A function of a and b: a where a > b, else b (also where either is NaN).

    ``torch.maximum`` halves the gradient of ties. On a CPU ``torch.where`` takes six times as long
    as operations on the bits, which need a gradient of their own.
    """
    import torch

    def bits(x: Tensor) -> Tensor:
        return x.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])

    class Larger(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            in_bits = bits(a)
            is_a = torch.gt(a, b, out=torch.empty_like(in_bits)).neg_()
            ctx.save_for_backward(is_a)
            return (in_bits ^ bits(b)).bitwise_and_(is_a).bitwise_xor_(bits(b)).view(a.dtype)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, Tensor]:
            (is_a,) = ctx.saved_tensors
            of_a = bits(diff) & is_a
            return of_a.view(diff.dtype), (bits(diff) ^ of_a).view(diff.dtype)

    def larger(a: Tensor, b: Tensor) -> Tensor:
        # Under autocast a and b may have different types, so that their bits cannot be combined.
        if a.device.type == "cpu" and a.dtype == b.dtype and not is_transformed():
            result: Tensor = Larger.apply(a, b)
            return result
        return torch.where(a > b, a, b)

    return larger
