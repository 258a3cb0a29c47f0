"""ShuffleChannel: channels of several groups, interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ShuffleChannel", fork="ShuffleNet")
class ShuffleChannel(Layer):
    """Channel i C / g + j of the bottom becomes channel j g + i, for g = ``group``.

    Bottom and top (N, C, ...); C is a multiple of ``group``, which is 1 by default.
    Source: the ShuffleChannel layer of farmingyard's ShuffleNet.
    """

    in_place = False
    fork_fields = ("shuffle_channel_param",)
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.group = message.shuffle_channel_param.group
        self.check(self.group > 0, "group is 0, it must be positive")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self._check_channels(bottoms[0])
        return [bottoms[0]]

    def _check_channels(self, bottom: Sequence[int]) -> None:
        self.check(
            len(bottom) > 1 and bottom[1] % self.group == 0,
            f"the channels of the bottom {format_shape(bottom)} are not a multiple of group "
            f"{self.group}",
        )

    def forward(self, x: Tensor) -> Tensor:
        self._check_channels(x.shape)
        groups = x.unflatten(1, (self.group, x.shape[1] // self.group))
        return groups.transpose(1, 2).flatten(1, 2)
