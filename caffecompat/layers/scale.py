"""Scale and Bias: the product and the sum with a parameter or a second bottom, broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor


class Broadcasting(Layer):
    """A layer whose second operand covers ``num_axes`` axes of the bottom, from ``axis`` on.

    The operand is the second bottom, if there is one, else a parameter. The shape of a second
    bottom overrides ``num_axes``. ``num_axes`` -1 means all axes to the end; with 0 the operand is
    a single number without axes, and ``axis`` is ignored.
    """

    bottoms = between(1, 2)
    checks_blobs = True
    pointwise = True

    def operand_shape(self, p: Message, bottoms: Sequence[Shape]) -> Shape:
        """Shape of the second operand; sets :attr:`first`, its first axis in the bottom."""
        if len(bottoms) == 2 and not bottoms[1]:
            self.first = 0
            return ()
        first = self.axis(p.axis, bottoms[0])
        if len(bottoms) == 2:
            shape = bottoms[1]
        else:
            self.check(p.num_axes >= -1, f"num_axes is {p.num_axes}, it must be at least -1")
            end = len(bottoms[0]) if p.num_axes == -1 else first + p.num_axes
            self.check(
                end <= len(bottoms[0]),
                f"{p.num_axes} axes from axis {first} on do not exist in the bottom "
                f"{format_shape(bottoms[0])}",
            )
            shape = bottoms[0][first:end]
        self.first = first if shape else 0
        return shape

    def set_batch_coupling(self) -> None:
        """Sets :attr:`batch_coupling` if parameters have a value for each row of the batch.

        Call it after the parameters are declared.
        """
        if self.first == 0 and any(spec.shape for spec in self.specs):
            self.batch_coupling = "has parameters for each row of the batch"

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for operand in bottoms[1:]:
            self._check_operand(operand, bottoms[0])
        return [bottoms[0]]

    def _check_operand(self, operand: Sequence[int], bottom: Sequence[int]) -> None:
        self.check(
            bottom[self.first : self.first + len(operand)] == operand,
            f"the operand {format_shape(operand)} does not match the bottom "
            f"{format_shape(bottom)} from axis {self.first} on",
        )

    def aligned(self, operand: Tensor, x: Tensor) -> Tensor:
        """``operand`` in the type of ``x``, in a shape that broadcasts from :attr:`first` on."""
        self._check_operand(operand.shape, x.shape)
        end = self.first + operand.dim()
        # Parameters stay in fp32 where blobs have 16 bits; the result should have 16 bits too.
        return operand.to(x.dtype).reshape(operand.shape + (1,) * (x.dim() - end))


@register("Scale")
class Scale(Broadcasting):
    """y = a x, or a x + b with ``bias_term``; a and b have the same shape, broadcast against x.

    See :class:`Broadcasting` for that shape. Without a filler a is 1 initially. With two bottoms
    the second is a, and the bias is the only parameter. Source: Caffe's Scale layer.
    """

    parameters = ("weight", "bias")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.scale_param
        shape = self.operand_shape(p, bottoms)
        if len(bottoms) == 1:
            self.parameter("weight", shape, p.filler if p.HasField("filler") else _ones())
        if p.bias_term:
            # The layer that adds it checks the axis for a single number too.
            self.axis(p.axis, bottoms[0])
            self.parameter("bias", shape, p.bias_filler)
        self.set_batch_coupling()

    def forward(
        self,
        x: Tensor,
        factor: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        operand = weight if factor is None else factor
        assert operand is not None
        scale = self.aligned(operand, x)
        return x * scale if bias is None else x * scale + self.aligned(bias, x)


@register("Bias")
class Bias(Broadcasting):
    """y = x + b, with b the second bottom or a parameter, broadcast against x.

    See :class:`Broadcasting` for the shape of b. Source: Caffe's Bias layer.
    """

    parameters = ("bias",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.bias_param
        shape = self.operand_shape(p, bottoms)
        if len(bottoms) == 1:
            self.parameter("bias", shape, p.filler)
        self.set_batch_coupling()

    def forward(
        self, x: Tensor, summand: Tensor | None = None, *, bias: Tensor | None = None
    ) -> Tensor:
        operand = bias if summand is None else summand
        assert operand is not None
        return x + self.aligned(operand, x)


def _ones() -> Message:
    filler = new("FillerParameter")
    filler.value = 1
    return filler
