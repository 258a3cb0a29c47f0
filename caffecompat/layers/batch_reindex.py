"""BatchReindex: the items of a batch at given indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers._class_labels import Indices
from caffecompat.layers._repeatable_gradients import selected

if TYPE_CHECKING:
    from torch import Tensor


@register("BatchReindex")
class BatchReindex(Layer):
    """The items of the first bottom at the indices of the second; indices may repeat.

    Bottoms: (N, ...) and M indices below N; top: (M, ...). The gradient of an item is the sum over
    its copies; the indices get none. Source: Caffe's BatchReindex layer.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)
    batch_coupling = "takes its items from the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        if bottoms[0]:
            self.indices = Indices(bottoms[0][0], "items of its first bottom", 1)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        self.check(
            index.dim() == 1,
            f"the indices are {format_shape(index.shape)}, they must have one axis",
        )
        sentence = f"an index lies outside 0 to {x.shape[0] - 1}, the items of the bottom"
        with explaining_bad_index(self, sentence):
            return selected(x, 0, index.detach().long())
