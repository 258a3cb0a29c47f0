"""Reshape: other extents for the same elements."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers.base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Reshape")
class Reshape(Layer):
    """The axes from ``axis`` on, ``num_axes`` of them (-1: all), become those of ``shape``.

    In ``shape`` 0 copies the bottom's extent at the same position, and one -1 takes what is left.
    An empty shape removes the axes. A negative ``axis`` counts from one past the end, so that -1
    appends: unlike in any other layer. Source: Caffe's Reshape layer.
    """

    in_place = False

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.reshape_param
        self.start, self.count = p.axis, p.num_axes
        self.new = tuple(p.shape.dim)
        self.check(self.count >= -1, f"num_axes is {self.count}, it must be at least -1")
        self.check(
            all(extent >= -1 for extent in self.new) and self.new.count(-1) <= 1,
            f"shape {' '.join(map(str, self.new))} may hold extents, 0, and -1 once",
        )
        self.axes = len(bottoms[0])
        self.plan = self._plan(bottoms[0])

    def forward(self, x: Tensor) -> Tensor:
        import torch

        shape = x.shape
        plan = self.plan if len(shape) == self.axes else self._plan(shape)
        extents = [shape[axis] if extent == 0 else extent for axis, extent in plan]
        try:
            return torch.reshape(x, extents)
        except RuntimeError as problem:
            self.refuse(
                f"{format_shape(shape)} has {prod(shape)} elements, which do not make "
                f"{format_shape(extents)}"
            )
            raise AssertionError from problem

    def _plan(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        """For each axis of the top its extent, or 0 and the axis of the bottom that gives it."""
        axes = len(shape)
        start = self.start if self.start >= 0 else axes + self.start + 1
        end = axes if self.count == -1 else start + self.count
        self.check(
            0 <= start <= end <= axes,
            f"axis {self.start} and num_axes {self.count} do not fit the bottom "
            f"{format_shape(shape)}",
        )
        for i, extent in enumerate(self.new):
            self.check(
                extent != 0 or start + i < axes,
                f"extent {i} of shape is 0, but the bottom {format_shape(shape)} has no axis "
                f"{start + i} to copy",
            )
        kept_before = [(axis, 0) for axis in range(start)]
        kept_after = [(axis, 0) for axis in range(end, axes)]
        return [*kept_before, *enumerate(self.new, start), *kept_after]
