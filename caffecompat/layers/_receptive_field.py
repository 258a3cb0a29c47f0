"""How much of a net's input an element of a blob depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class ReceptiveField:
    """What one element sees, per spatial axis.

    Attributes:
        size: extents in pixels of the net's input, padding not counted off.
        stride: pixels of the input between neighbours; a fraction after a deconvolution.
    """

    size: tuple[int, ...]
    stride: tuple[Fraction, ...]

    @classmethod
    def of_input(cls, axes: int) -> ReceptiveField:
        """The field of the input's own elements: one pixel."""
        return cls((1,) * axes, (Fraction(1),) * axes)

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.size)

    def through(
        self, window: Sequence[int], stride: Sequence[int | Fraction] | int = 1
    ) -> ReceptiveField:
        """The field behind a window that covers ``window`` elements and moves by ``stride``.

        Both have one entry per spatial axis; a single ``stride`` holds for all.
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
        size = str(self.size[0]) if square else "x".join(map(str, self.size))
        stride = str(self.stride[0]) if square else "x".join(map(str, self.stride))
        return f"{size} /{stride}"
