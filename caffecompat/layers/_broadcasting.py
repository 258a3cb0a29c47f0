"""The base class of Scale and Bias: an operand that covers some axes of the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape

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
        self._given = p.axis
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
        first = self._first_in(bottom, operand)
        self.check(
            bottom[first : first + len(operand)] == operand,
            f"the operand {format_shape(operand)} does not match the bottom "
            f"{format_shape(bottom)} from axis {first} on",
        )

    def _first_in(self, bottom: Sequence[int], operand: Sequence[int]) -> int:
        """The operand's first axis in a bottom of this shape.

        A negative axis is another one after an input was resized to another number of axes.
        """
        return self.axis(self._given, bottom) if len(operand) else 0

    def aligned(self, operand: Tensor, x: Tensor) -> Tensor:
        """``operand`` in the type of ``x``, in a shape that broadcasts from its axis on."""
        self._check_operand(operand.shape, x.shape)
        end = self._first_in(x.shape, operand.shape) + operand.dim()
        # Parameters stay in fp32 where blobs have 16 bits; the result should have 16 bits too.
        return operand.to(x.dtype).reshape(operand.shape + (1,) * (x.dim() - end))
