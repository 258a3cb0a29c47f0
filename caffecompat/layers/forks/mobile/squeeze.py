"""Squeeze: axes of extent 1 removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Squeeze", fork="Synopsys")
class Squeeze(Layer):
    """The bottom without the axes in ``axis``, or without all axes of extent 1 if none is given.

    A given axis must have extent 1; negative ones count from the end.
    Source: Synopsys' Squeeze layer.
    """

    in_place = False
    fork_fields = ("squeeze_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        shape = bottoms[0]
        given = [self.axis(axis, shape) for axis in message.squeeze_param.axis]
        for axis in given:
            self.check(
                shape[axis] == 1,
                f"axis {axis} of the bottom {format_shape(shape)} has extent {shape[axis]}; only "
                "axes of extent 1 can be removed",
            )
        ones = [axis for axis, extent in enumerate(shape) if extent == 1]
        self.removed = tuple(sorted(set(given))) if given else tuple(ones)
        self.batch_coupling = ALONG_BATCH if 0 in self.removed else None

    def forward(self, x: Tensor) -> Tensor:
        self.check(
            all(axis < x.dim() and x.shape[axis] == 1 for axis in self.removed),
            f"the bottom is {format_shape(x.shape)}; the axes {list(self.removed)} that are "
            "removed must have extent 1",
        )
        return x.squeeze(self.removed)
