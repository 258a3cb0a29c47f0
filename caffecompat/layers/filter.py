"""Filter: the items of a batch that a selector marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, format_shape, register

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
