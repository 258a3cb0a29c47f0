"""Resize of Wei Zhen: square maps by a factor, to a size, or to the size of another blob."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers.forks.general._fading_resize import resize_along
from caffecompat.proto.schema import enum_name

if TYPE_CHECKING:
    from torch import Tensor

_OWN = ("function_type", "intepolation_type", "output_size", "resize_factor")


@register("Resize", fork="Wei Zhen")
class ResizeSquare(Layer):
    """(N, C, S, S) as (N, C, T, T), T = floor(S * factor).

    With ``function_type`` FACTOR_GIVEN the factor is ``resize_factor``; with SIZE_GIVEN T is
    ``output_size``, with BLOB_ALIGN the height of the second bottom, and the factor T / S.
    ``intepolation_type`` (its spelling) NEAREST takes row floor(i / factor) for row i, and gives
    row j the gradient of row floor(j * factor) alone. BILINEAR takes the neighbours of i / factor,
    where one below the last row counts as 0, and its gradient is divided by factor squared.
    Source: the Resize layer of Wei Zhen's Caffe, as it computes on a GPU.
    """

    bottoms = between(1, 2)
    in_place = False
    fork_fields = ("resize_param",)
    differentiable = (True, False)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.resize_param
        return any(p.HasField(name) for name in _OWN) or None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.resize_param
        self.function = enum_name(p, "function_type")
        self.nearest = _nearest() if p.intepolation_type == 1 else None
        self.size, self.factor = int(p.output_size), float(p.resize_factor)
        if self.function == "BLOB_ALIGN":
            self.check(len(bottoms) == 2, "with BLOB_ALIGN it needs a second bottom")
        if self.function == "SIZE_GIVEN":
            self.check(
                self.size > 0, f"output_size is {p.output_size:g}, SIZE_GIVEN needs a positive one"
            )

    def forward(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        self.check(
            x.dim() == 4 and x.shape[2] == x.shape[3],
            f"the bottom is {format_shape(x.shape)}, it must be square maps (N, C, S, S)",
        )
        side = int(x.shape[2])
        count, factor = self._size(side, like)
        self.check(count > 0, f"a side of {side} becomes {count} with factor {factor:g}")
        if self.nearest is not None:
            return self.nearest(x, count, factor)
        y = x
        for axis in (2, 3):
            y = resize_along(y, axis, count, 1 / factor)
        # The value of y with the gradient divided by factor squared.
        scaled = y / factor**2
        return scaled + (y - scaled).detach()

    def _size(self, side: int, like: Tensor | None) -> tuple[int, float]:
        """The side of the top, and the factor."""
        if self.function == "FACTOR_GIVEN":
            return int(side * self.factor), self.factor
        count = self.size if like is None or self.function == "SIZE_GIVEN" else int(like.shape[2])
        return count, count / side


def _nearest() -> Callable[[Tensor, int, float], Tensor]:
    import torch

    class Nearest(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, count: int, factor: float) -> Tensor:
            ctx.places = (x.shape[2], count, factor)
            at = torch.arange(count, device=x.device, dtype=torch.float32) / factor
            at = at.long().clamp(max=x.shape[2] - 1)
            return x.index_select(2, at).index_select(3, at)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None, None]:
            side, count, factor = ctx.places
            at = torch.arange(side, device=diff.device, dtype=torch.float32) * factor
            at = at.long().clamp(max=count - 1)
            return diff.index_select(2, at).index_select(3, at), None, None

    return Nearest.apply
