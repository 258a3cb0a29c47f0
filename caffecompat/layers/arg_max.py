"""ArgMax."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers.base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ArgMax")
class ArgMax(Layer):
    """Indices of the ``top_k`` greatest values, the greatest first; ties go to the larger index.

    With ``axis`` they are sought along it, and the top has extent top_k there; with
    ``out_max_val`` it holds the values instead. Without ``axis`` all of an item counts as one
    row: top (N, 1, top_k), or (N, 2, top_k) with indices and then values, and as many further
    axes of extent 1 as the bottom has beyond three. No gradient. Source: Caffe's ArgMax layer.
    """

    in_place = False
    differentiable = (False,)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.argmax_param
        self.along = self.axis(p.axis, bottoms[0]) if p.HasField("axis") else None
        self.top_k = p.top_k
        self.values = p.out_max_val
        shape = bottoms[0]
        choice = prod(shape[1:]) if self.along is None else shape[self.along]
        self.check(
            1 <= self.top_k <= choice,
            f"top_k is {self.top_k}, but there are {choice} values to choose from in "
            f"{format_shape(shape)}",
        )

    def forward(self, x: Tensor) -> Tensor:
        import torch

        if self.along is not None:
            values, index = self._greatest(x, self.along)
            return values if self.values else index
        values, index = self._greatest(x.flatten(1), 1)
        rows = [index, values] if self.values else [index]
        shape = (x.shape[0], len(rows), self.top_k) + (1,) * (x.dim() - 3)
        return torch.stack(rows, 1).view(shape)

    def _greatest(self, x: Tensor, along: int) -> tuple[Tensor, Tensor]:
        # torch finds the first of equal values; seen from the end that is the larger index.
        turned = x.detach().flip(along)
        if self.top_k == 1:
            values, index = turned.max(along, keepdim=True)
        else:
            values, index = turned.sort(dim=along, descending=True, stable=True)
            values = values.narrow(along, 0, self.top_k)
            index = index.narrow(along, 0, self.top_k)
        return values, (x.shape[along] - 1 - index).to(x.dtype)
