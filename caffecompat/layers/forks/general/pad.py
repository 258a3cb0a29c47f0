"""Pad: a border of one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Pad", fork="Synopsys")
class Pad(Layer):
    """The bottom with ``constant_values`` around it.

    ``paddings`` has two numbers for each axis, in their order: how many elements come before and
    after. The original has no gradient; here it is that of the elements of the bottom.
    Source: the Pad layer of Synopsys' Caffe.
    """

    in_place = False
    fork_fields = ("pad_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.pad_param
        self.paddings, self.value = list(p.paddings), p.constant_values
        self._check(bottoms[0])

    def _check(self, shape: Sequence[int]) -> None:
        self.check(
            len(self.paddings) == 2 * len(shape),
            f"paddings has {len(self.paddings)} values, the bottom {format_shape(shape)} needs "
            f"{2 * len(shape)}",
        )

    def forward(self, x: Tensor) -> Tensor:
        import torch

        self._check(x.shape)
        shape = [
            extent + self.paddings[2 * axis] + self.paddings[2 * axis + 1]
            for axis, extent in enumerate(x.shape)
        ]
        self.check_size(shape, "the top")
        # torch has the last axis first.
        pairs = [self.paddings[2 * axis : 2 * axis + 2] for axis in reversed(range(x.dim()))]
        flat = [extent for pair in pairs for extent in pair]
        return torch.nn.functional.pad(x, flat, value=self.value)
