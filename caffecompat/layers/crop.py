"""Crop: a blob cropped to the size of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import (
    ALONG_BATCH,
    Layer,
    Message,
    Shape,
    exactly,
    format_shape,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("Crop")
class Crop(Layer):
    """The first bottom, cropped to the extents of the second in the axes from ``axis`` on.

    ``offset`` is given once for all these axes, or once for each; it is 0 by default. Axes before
    ``axis`` are not cropped and may differ. Only the shape of the second bottom is used.
    Source: Caffe's Crop layer.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.crop_param
        self._given = p.axis
        self.first = self.axis(p.axis, bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.first == 0 else None
        self._given_offsets = tuple(p.offset)
        self.offsets = self._offsets(bottoms[0], self.first)

    def _offsets(self, shape: Sequence[int], first: int) -> tuple[int, ...]:
        """The offset of each axis from ``first`` on."""
        axes = len(shape) - first
        offsets = self._given_offsets
        self.check(
            len(offsets) in (0, 1, axes),
            f"offset is given {len(offsets)} times, but {axes} axes are cropped; give one for "
            "each, or one for all",
        )
        return (offsets or (0,)) * axes if len(offsets) < 2 else offsets

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape, reference = bottoms
        # Found for each shape: inputs may be resized to another number of axes.
        first = self.axis(self._given, shape)
        for axis, offset in enumerate(self._offsets(shape, first), first):
            self._check_axis(axis, offset, shape, reference)
        return [(*shape[:first], *reference[first : len(shape)])]

    def _check_axis(
        self, axis: int, offset: int, shape: Sequence[int], reference: Sequence[int]
    ) -> None:
        self.check(
            axis < len(reference) and offset + reference[axis] <= shape[axis],
            f"axis {axis} cannot be cropped at offset {offset}: the bottom is "
            f"{format_shape(shape)}, the reference {format_shape(reference)}",
        )

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        first = self.axis(self._given, x.shape)
        for axis, offset in enumerate(self._offsets(x.shape, first), first):
            self._check_axis(axis, offset, x.shape, reference.shape)
            x = x.narrow(axis, offset, reference.shape[axis])
        return x
