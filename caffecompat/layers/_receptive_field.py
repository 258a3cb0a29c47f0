"""The receptive field of a blob's elements in a net's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from caffecompat.reporting.units import format_shape


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of one element, per spatial axis.

    Attributes:
        size: extents in pixels of the net's input, including padding.
        stride: pixels of the input between neighbouring elements; a fraction after a
            deconvolution.
    """

    size: tuple[int, ...]
    stride: tuple[Fraction, ...]

    @classmethod
    def of_input(cls, axes: int) -> ReceptiveField:
        """The field of the input's elements: one pixel."""
        return cls((1,) * axes, (Fraction(1),) * axes)

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.size)

    def through(
        self, window: Sequence[int], stride: Sequence[int | Fraction] | int = 1
    ) -> ReceptiveField:
        """The field after a layer whose window covers ``window`` elements and moves by ``stride``.

        Both have one entry per spatial axis; a single ``stride`` applies to all axes.
        """
        steps = (stride,) * self.axes if isinstance(stride, int) else stride
        return ReceptiveField(
            tuple(
                int(size + (extent - 1) * apart)
                for size, extent, apart in zip(self.size, window, self.stride, strict=True)
            ),
            tuple(apart * step for apart, step in zip(self.stride, steps, strict=True)),
        )

    def __str__(self) -> str:
        square = len(set(self.size)) == 1 and len(set(self.stride)) == 1
        size = str(self.size[0]) if square else format_shape(self.size)
        stride = str(self.stride[0]) if square else format_shape(self.stride)
        return f"{size} /{stride}"
