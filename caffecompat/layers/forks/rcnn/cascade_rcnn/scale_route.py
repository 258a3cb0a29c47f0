"""ScaleRoute of Cascade R-CNN: the regions of a range of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_FLOAT = 3.4028234663852886e38
_MIDDLE = 256.0


@register("ScaleRoute", fork="Cascade R-CNN")
class ScaleRoute(Layer):
    """The items of each bottom whose regions have a size in a range.

    Bottoms: regions (R, 5, ...) with rows [image, x1, y1, x2, y2], and further blobs (R, ...).
    Tops: the K chosen items of each, (K, C, H, W) with missing axes 1. The size of a region is
    sqrt((x2 - x1 + 1) (y2 - y1 + 1)), or 0 if it ends before it begins; it must be ``low_scale`` or
    more and less than ``high_scale``, where they are given. Without any such region there is the
    one whose size is nearest to the middle in octaves, the first of equals: sqrt(low_scale
    high_scale), or the one of them that is given, or 256. When the net is built the tops have one
    item. No gradients. Source: scale_route_layer.cpp of Cascade R-CNN.
    """

    bottoms = at_least(1)
    tops = at_least(1)
    in_place = False
    differentiable = (False,)
    fork_fields = ("scale_route_param",)
    batch_coupling = "selects regions of the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.check(
            len(message.top) == len(bottoms),
            f"it has {len(bottoms)} bottoms and {len(message.top)} tops; give one top for each",
        )
        self.check(
            not any(message.propagate_down), "propagate_down is true, but it gives no gradients"
        )
        p = message.scale_route_param
        self.low = p.low_scale if p.HasField("low_scale") else 0.0
        self.high = p.high_scale if p.HasField("high_scale") else _LARGEST_FLOAT
        self.check(
            (self.low > 0 or not p.HasField("low_scale")) and self.low <= self.high,
            f"low_scale is {p.low_scale:g} and high_scale {p.high_scale:g}; expected positive "
            "sizes, the smaller one first",
        )
        both = (p.HasField("low_scale"), p.HasField("high_scale"))
        middles = {
            (True, True): (self.low * self.high) ** 0.5,
            (True, False): self.low,
            (False, True): self.high,
            (False, False): _MIDDLE,
        }
        self.middle = middles[both]

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        self._check_shapes(bottoms)
        regions = bottoms[0].detach().flatten(1)
        extents = regions[:, 3:5] - regions[:, 1:3]
        sizes = ((extents + 1).prod(1) * (extents >= 0).all(1)).sqrt()
        chosen = ((sizes >= self.low) & (sizes < self.high)).nonzero().squeeze(1)
        if not len(chosen):
            chosen = (sizes / self.middle).log2().abs().argmin().reshape(1)
        tops = tuple(_with_four_axes(x.detach()).index_select(0, chosen) for x in bottoms)
        return tops if len(tops) > 1 else tops[0]

    def infer(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        self._check_shapes(bottoms)
        tops = tuple(_with_four_axes(x)[:1] for x in bottoms)
        return tops if len(tops) > 1 else tops[0]

    def _check_shapes(self, bottoms: Sequence[Tensor]) -> None:
        count = bottoms[0].shape[0] if bottoms[0].dim() else 0
        self.check(
            count > 0 and bottoms[0].numel() == 5 * count,
            f"its first bottom is {format_shape(bottoms[0].shape)}; expected regions R x 5",
        )
        for x in bottoms:
            self.check(
                0 < x.dim() <= 4 and x.shape[0] == count,
                f"a bottom is {format_shape(x.shape)}; expected {count} items of at most 4 axes",
            )


def _with_four_axes(x: Tensor) -> Tensor:
    return x.reshape(*x.shape, *(1,) * (4 - x.dim()))
