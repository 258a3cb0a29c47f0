"""Reshape: the same elements with another shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Reshape")
class Reshape(Layer):
    """Replaces ``num_axes`` axes (-1: all) from ``axis`` on by the axes of ``shape``.

    In ``shape`` 0 copies the bottom's extent at the same position, and one extent may be -1, which
    is inferred. An empty shape removes the axes. Unlike in all other layers, a negative ``axis``
    counts from one past the end, so that -1 appends axes.

    With ``pixelshuffler`` r above 1, a field of Synopsys' Caffe, (N, C, H, W) becomes
    (N, C / r^2, r H, r W): channel c r^2 + i r + j of a pixel goes to row i and column j of its
    r x r block in channel c. Source: Caffe's Reshape layer.
    """

    in_place = False
    ignores_propagate_down = True
    fork_fields = ("reshape_param.pixelshuffler",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.reshape_param
        self.block = p.pixelshuffler
        if self.block != 1:
            self.check(self.block > 1, f"pixelshuffler is {self.block}, it must be positive")
            return
        self.start, self.count = p.axis, p.num_axes
        self.new = tuple(p.shape.dim)
        self.check(self.count >= -1, f"num_axes is {self.count}, it must be at least -1")
        self.check(
            all(extent >= -1 for extent in self.new) and self.new.count(-1) <= 1,
            f"shape {' '.join(map(str, self.new))} may hold extents, 0, and -1 once",
        )
        self._made_for = tuple(bottoms[0])
        self._extents = self._shape(self._made_for)

    def forward(self, x: Tensor) -> Tensor:
        import torch

        if self.block != 1:
            self._check_blocks(x.shape)
            return torch.pixel_shuffle(x, self.block)
        # Computing the extents takes longer than the view, so those of the built shape are cached.
        made_for = x.shape == self._made_for
        return torch.reshape(x, self._extents if made_for else self._shape(tuple(x.shape)))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.block == 1:
            return [self._shape(bottoms[0])]
        self._check_blocks(bottoms[0])
        n, channels, height, width = bottoms[0]
        return [(n, channels // self.block**2, self.block * height, self.block * width)]

    def _check_blocks(self, bottom: Sequence[int]) -> None:
        self.check(
            len(bottom) == 4 and bottom[1] % self.block**2 == 0,
            f"the bottom is {format_shape(bottom)}; pixelshuffler {self.block} needs 4 axes "
            f"and a multiple of {self.block**2} channels",
        )

    def _shape(self, shape: Shape) -> Shape:
        start, end = self._replaced(shape)
        new = list(self.new)
        for i, extent in enumerate(new):
            if extent == 0:
                self.check(
                    start + i < len(shape),
                    f"extent {i} of shape is 0, but the bottom {format_shape(shape)} has no axis "
                    f"{start + i} to copy",
                )
                new[i] = shape[start + i]
        result = [*shape[:start], *new, *shape[end:]]
        known = prod([extent for extent in result if extent != -1])
        fits = prod(shape) % max(known, 1) == 0 if -1 in result else prod(shape) == known
        self.check(
            fits,
            f"{format_shape(shape)} has {prod(shape)} elements and cannot be reshaped to "
            f"{format_shape(result)}",
        )
        if known == 0:
            # An empty batch: infer the extent from one item.
            left = prod([e for e in shape if e]) // prod([e for e in result if e > 0])
        else:
            left = prod(shape) // known
        return tuple(left if extent == -1 else extent for extent in result)

    def _replaced(self, shape: Shape) -> tuple[int, int]:
        start = self.start if self.start >= 0 else len(shape) + self.start + 1
        end = len(shape) if self.count == -1 else start + self.count
        self.check(
            0 <= start <= end <= len(shape),
            f"axis {self.start} and num_axes {self.count} do not fit the bottom "
            f"{format_shape(shape)}",
        )
        return start, end
