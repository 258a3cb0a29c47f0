"""Filter and BatchReindex: a selection of the items of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import (
    Layer,
    Message,
    Shape,
    at_least,
    exactly,
    format_shape,
    register,
)
from caffecompat.layers._class_labels import Indices
from caffecompat.layers._repeatable_selection import selected

if TYPE_CHECKING:
    from torch import Tensor


@register("Filter")
class Filter(Layer):
    """The items of each bottom whose selector is not 0.

    The last bottom holds N selectors. There is one top for each of the other bottoms (N, ...), with
    the selected items. This is the only type whose top shapes depend on values, so that it waits
    for the device. When the net is built, a top has N items. The selector gets no gradient.
    Source: Caffe's Filter layer.
    """

    bottoms = at_least(2)
    tops = at_least(1)
    in_place = False
    batch_coupling = "selects any number of items of the batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.check(
            len(message.top) == len(bottoms) - 1,
            f"it has {len(bottoms)} bottoms and {len(message.top)} tops; give one top for each "
            "bottom but the selector",
        )

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        *items, selector = bottoms
        self._check_shapes(items, selector)
        chosen = selector.detach().reshape(-1).nonzero().squeeze(1)
        tops = tuple(x.index_select(0, chosen) for x in items)
        return tops if len(tops) > 1 else tops[0]

    def infer(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        *items, selector = bottoms
        self._check_shapes(items, selector)
        return tuple(items) if len(items) > 1 else items[0]

    def _check_shapes(self, items: Sequence[Tensor], selector: Tensor) -> None:
        for x in items:
            self.check(
                selector.dim() > 0
                and selector.numel() == selector.shape[0]
                and x.dim() > 0
                and x.shape[0] == selector.shape[0],
                f"a bottom is {format_shape(x.shape)} and the selector "
                f"{format_shape(selector.shape)}; it must be one number per item",
            )


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
        try:
            return selected(x, 0, index.detach().long())
        except IndexError as problem:
            self.refuse(f"an index lies outside 0 to {x.shape[0] - 1}, the items of the bottom")
            raise AssertionError from problem
