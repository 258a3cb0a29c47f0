"""Axpy: channels weighted and added to another blob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, exactly, format_shape, register

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
        self.check(
            x.dim() > 1
            and y.shape == x.shape
            and a.shape[:2] == x.shape[:2]
            and a.numel() == x.shape[0] * x.shape[1],
            f"its bottoms are {', '.join(format_shape(b.shape) for b in (a, x, y))}; they must be "
            "NxC weights (or NxCx1x1), NxCxHxW and NxCxHxW",
        )
        return a.reshape(*x.shape[:2], *(1,) * (x.dim() - 2)) * x + y
