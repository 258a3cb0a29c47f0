"""Gather: the rows of all processes, where a net runs in several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Gather", fork="action recognition")
class Gather(Layer):
    """Each top is the bottom at its position.

    With several processes (MPI) the original joins their rows, so that losses above see the whole
    batch. Here a process keeps its own rows, and the losses of all processes are combined.
    Source: the Gather layer of the Caffe of Temporal Segment Networks.
    """

    bottoms = at_least(1)
    tops = at_least(1)
    batch_coupling = "joins the rows of all processes into one batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.check(
            len(message.top) == len(bottoms),
            f"it has {len(bottoms)} bottoms and {len(message.top)} tops; both must be as many",
        )

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = tuple(bottom.view_as(bottom) for bottom in bottoms)
        return tops if len(tops) > 1 else tops[0]
