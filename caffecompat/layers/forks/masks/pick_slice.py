"""PickSlice: a group of channels for each item."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers._repeatable_gradients import gathered

if TYPE_CHECKING:
    from torch import Tensor


@register("PickSlice", fork="SDS, hypercolumns")
class PickSlice(Layer):
    """One group of channels of each item: (N, C, ...) becomes (N, ``channels``, ...).

    The second bottom has N numbers: number k chooses the channels k ``channels`` to
    (k + 1) ``channels`` - 1. It gets no gradient. Source: the pick_slice_layer of the Caffe of
    hypercolumns.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)
    fork_fields = ("pick_slice_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.channels = int(message.pick_slice_param.channels)
        self.check(self.channels > 0, "pick_slice_param: channels is 0, it must be positive")

    def forward(self, x: Tensor, group: Tensor) -> Tensor:
        import torch

        self.check(
            2 <= x.dim() <= 4 and x.shape[1] >= self.channels,
            f"the bottom is {format_shape(x.shape)}; expected 2 to 4 axes and {self.channels} "
            "channels or more",
        )
        self.check(
            group.dim() > 0 and group.shape[0] == prod(group.shape) == x.shape[0],
            f"the second bottom is {format_shape(group.shape)}; expected one number for each of "
            f"{x.shape[0]} items",
        )
        first = group.detach().reshape(-1, 1).long() * self.channels
        index = first + torch.arange(self.channels, device=x.device)
        index = index.reshape(*index.shape, *(1,) * (x.dim() - 2))
        with explaining_bad_index(
            self,
            f"the second bottom has a number that is none of the {x.shape[1]} // "
            f"{self.channels} groups of channels",
        ):
            return gathered(x, 1, index.expand(x.shape[0], self.channels, *x.shape[2:]))
