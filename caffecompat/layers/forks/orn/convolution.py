"""Convolution of the oriented response networks: kernels that are rotated copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, format_shape, register
from caffecompat.layers._repeatable_gradients import selected
from caffecompat.layers.convolution import Convolution

if TYPE_CHECKING:
    from torch import Tensor

# The outer elements of a 3x3 kernel, clockwise from the upper left one; 4 is the centre.
_RING = (0, 1, 2, 5, 8, 7, 6, 3)
_CENTRE = 4


@register("Convolution", fork="ORN")
class OrientedConvolution(Convolution):
    """Convolution whose output channels are rotations of kernels (active rotating filters).

    With ``orientations`` n of 4 or 8, a bottom (B, I n, H, W) becomes (B, O n, H', W'); channels
    come in groups of n orientations. The weight is (O n, I n, k, k) with k 1 or 3, of which only
    the O kernels of the first orientation count: orientation r of the outputs has their elements
    moved by r orientations of the inputs, and in the plane r 8 / n steps clockwise around the
    centre. The other rows of the weight are not read, and their gradient is 0; the original
    overwrites them with the rotated kernels. The bias is (O n).
    Source: the convolution layer of the oriented response networks.
    """

    param_fields = ("convolution_param", "orn_param")
    fork_fields = (*Convolution.fork_fields, "orn_param")
    uses_host = True

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        return bool(message.HasField("orn_param"))

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.orientations = int(message.orn_param.orientations)
        super().setup(message, bottoms)
        if self.orientations == 1:
            return
        self.check(
            self.orientations in (4, 8),
            f"orientations is {self.orientations}, supported are 1, 4 and 8",
        )
        self.check(
            self.geometry.kernel in ((1, 1), (3, 3)) and self.group == 1,
            f"its kernel is {format_shape(self.geometry.kernel)} and group {self.group}; rotated "
            "kernels are 1x1 or 3x3, without groups",
        )
        for what, count in (("bottom's channels", self.channels), ("num_output", self.outputs)):
            self.check(
                count % self.orientations == 0,
                f"{what} {count} is not a multiple of orientations {self.orientations}",
            )

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super().convolve(x, self.rotated(weight), bias)

    def rotated(self, weight: Tensor) -> Tensor:
        """The weight with all orientations, from those of the first."""
        import torch

        count = self.orientations
        if count == 1:
            return weight
        outputs, inputs = weight.shape[0] // count, weight.shape[1] // count
        # The blob's order: outputs, their orientations, inputs, their orientations, plane.
        first = weight.reshape(outputs, count, inputs, count, -1)[:, 0]
        turned = [
            selected(first.roll(turn, 2), -1, _sources(turn, count, first)) for turn in range(count)
        ]
        return torch.stack(turned, 1).reshape(weight.shape)


def _sources(turn: int, count: int, kernel: Tensor) -> Tensor:
    """For each element of a rotated kernel the element of the first that moves there."""
    import torch

    if kernel.shape[-1] == 1:
        return torch.zeros(1, dtype=torch.long, device=kernel.device)
    source = [_CENTRE] * (_CENTRE * 2 + 1)
    steps = turn * len(_RING) // count
    for place, element in enumerate(_RING):
        source[_RING[(place + steps) % len(_RING)]] = element
    return torch.tensor(source, device=kernel.device)
