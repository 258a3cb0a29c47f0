"""MIL: the probability that something is anywhere in an image, from its places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor


@register("MIL", fork="visual concepts")
class MIL(Layer):
    """Multiple instance learning: bottom (N, C, H, W), top (N, C, 1, 1).

    ``type`` MAX: the maximum of the map; equal maxima get the whole gradient each. NOR (noisy or):
    1 - prod(1 - p), at least the maximum of p, for probabilities p; p has the gradient min(1, (1 -
    y) / (1 - p)), and 1 where p is 1. The original ends if a p is outside of [0, 1], here nothing
    checks it. Source: the MIL layer of "From captions to visual concepts and back".
    """

    in_place = False
    fork_fields = ("mil_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.mil_param
        self.noisy_or = p.MILType.Name(p.type) == "NOR"

    def forward(self, x: Tensor) -> Tensor:
        self.check(
            x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes (N, C, H, W)"
        )
        p = x.detach()
        largest = p.amax((2, 3), keepdim=True)
        if self.noisy_or:
            y = (1 - (1 - p).flatten(2).prod(2)).view_as(largest).maximum(largest)
            other = (1 - p).where(p != 1, 1)
            slope = ((1 - y) / other).clamp(max=1).where(p != 1, 1)
        else:
            y = largest
            slope = (p == y).to(x.dtype)
        return with_gradient_of(y, (x * slope).sum((2, 3), keepdim=True))
