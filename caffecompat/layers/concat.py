"""Concat: several blobs concatenated along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._along_axis import AlongAxis
from caffecompat.layers._base import Message, Shape, at_least, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Concat")
class Concat(AlongAxis):
    """The bottoms concatenated along ``axis``; all their other extents are equal.

    ``concat_dim`` is the old name of ``axis`` and takes no negative number.
    Source: Caffe's Concat layer.
    """

    bottoms = at_least(1)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.read_axis(message.concat_param, "concat_dim", bottoms[0])
        # In Caffe such a top is the bottom.
        self.ignores_propagate_down = len(bottoms) == 1

    def forward(self, *bottoms: Tensor) -> Tensor:
        import torch

        if len(bottoms) == 1:
            return bottoms[0]
        self._check_shapes([tuple(x.shape) for x in bottoms])
        return torch.cat(bottoms, self.along_in(bottoms[0].shape))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self._check_shapes(bottoms)
        along = self.along_in(bottoms[0])
        joined = sum(shape[along] for shape in bottoms)
        return [(*bottoms[0][:along], joined, *bottoms[0][along + 1 :])]

    def _check_shapes(self, shapes: Sequence[Shape]) -> None:
        along = self.along_in(shapes[0])
        rest = [shape[:along] + shape[along + 1 :] for shape in shapes]
        self.check(
            all(other == rest[0] for other in rest)
            and all(len(shape) == len(shapes[0]) for shape in shapes),
            f"its bottoms are {', '.join(map(format_shape, shapes))}; all axes but "
            f"{along} must agree",
        )
