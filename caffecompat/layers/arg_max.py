"""ArgMax: the indices of the greatest values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ArgMax")
class ArgMax(Layer):
    """Indices of the ``top_k`` greatest values, the greatest first; of ties the larger index wins.

    With ``axis`` the values are compared along that axis, and the top has extent top_k there; with
    ``out_max_val`` it holds the values instead of the indices. Without ``axis`` all values of an
    item are compared: the top is (N, 1, top_k), or (N, 2, top_k) with ``out_max_val``, indices
    first, followed by one axis of extent 1 for each axis of the bottom beyond three. No gradient.
    With NaN values, whose order Caffe does not define, top_k 1 gives NaN and index 0.
    Source: Caffe's ArgMax layer.
    """

    in_place = False
    differentiable = (False,)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.argmax_param
        shape = bottoms[0]
        self.check(len(shape) > 0, "the bottom has no axes; it needs items along axis 0")
        self.along = self.axis(p.axis, shape) if p.HasField("axis") else None
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None
        self.top_k = p.top_k
        self.values = p.out_max_val
        self._check_choice(shape)

    def _check_choice(self, shape: Sequence[int]) -> None:
        choice = prod(shape[1:]) if self.along is None else shape[self.along]
        self.check(
            1 <= self.top_k <= choice,
            f"top_k is {self.top_k}, but there are {choice} values to choose from in "
            f"{format_shape(shape)}",
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        if self.along is not None:
            return [(*shape[: self.along], self.top_k, *shape[self.along + 1 :])]
        return [(shape[0], 1 + self.values, self.top_k, *(1,) * (len(shape) - 3))]

    def forward(self, x: Tensor) -> Tensor:
        import torch

        self._check_choice(x.shape)  # an input may have become smaller
        if self.along is not None:
            values, index = self._greatest(x, self.along)
            return values if self.values else index
        values, index = self._greatest(x.reshape(x.shape[0], prod(x.shape[1:])), 1)
        found = torch.stack((index, values), 1) if self.values else index
        return found.view(x.shape[0], 1 + self.values, self.top_k, *(1,) * (x.dim() - 3))

    def _greatest(self, x: Tensor, along: int) -> tuple[Tensor, Tensor]:
        import torch

        x, extent = x.detach(), x.shape[along]
        if self.top_k == 1:
            values = x.amax(along, keepdim=True)
            exact = torch.promote_types(x.dtype, torch.float32)
            places = torch.arange(extent, dtype=exact, device=x.device)
            places = places.view(-1, *(1,) * (x.dim() - along - 1))
            # A comparison that writes floats takes a quarter of the time of one that writes bools.
            index = torch.eq(x, values, out=torch.empty_like(x, dtype=exact)).mul_(places)
            return values, index.amax(along, keepdim=True).to(x.dtype)
        # A stable sort keeps the order of equal values; in the flipped bottom the larger index
        # comes first.
        values, index = x.flip(along).sort(dim=along, descending=True, stable=True)
        values = values.narrow(along, 0, self.top_k)
        return values, (extent - 1 - index.narrow(along, 0, self.top_k)).to(x.dtype)
