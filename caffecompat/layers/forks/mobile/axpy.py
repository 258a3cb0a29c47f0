"""Axpy: channels weighted and added to another blob."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Shape, exactly, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Axpy", fork="SENet")
class Axpy(Layer):
    """a x + y: each channel of x (N, C, H, W) times its weight a, plus y.

    Bottoms: a (N, C) or (N, C, 1, 1), x, and y in the shape of x.
    Source: SENet's Axpy layer.
    """

    bottoms = exactly(3)
    in_place = False
    fork_fields = ("axpy_param",)

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        self._check_shapes(a.shape, x.shape, y.shape)
        return a.reshape(*x.shape[:2], *(1,) * (x.dim() - 2)) * x + y

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self._check_shapes(*bottoms)
        return [bottoms[1]]

    def _check_shapes(self, a: Sequence[int], x: Sequence[int], y: Sequence[int]) -> None:
        self.check(
            len(x) > 1 and y == x and a[:2] == x[:2] and prod(a) == x[0] * x[1],
            f"its bottoms are {', '.join(map(format_shape, (a, x, y)))}; they must be "
            "NxC weights (or NxCx1x1), NxCxHxW and NxCxHxW",
        )
