"""LRN: local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._receptive_field import ReceptiveField

if TYPE_CHECKING:
    from torch import Tensor


@register("LRN")
class LRN(Layer):
    """y = x / (k + alpha * mean(x²))^beta, with the mean over a window around each element.

    Bottom and top (N, C, H, W). ACROSS_CHANNELS: the window is ``local_size`` channels at the same
    position. WITHIN_CHANNEL: the window is ``local_size`` x ``local_size`` pixels of the same
    channel; ``k`` is ignored and is 1. At borders too the mean divides by the size of the full
    window. ``local_size`` is odd. Source: Caffe's LRN layer; Krizhevsky et al. (2012) use the sum,
    so that their alpha is Caffe's divided by the size of the window.
    """

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.lrn_param
        self.check(p.local_size % 2 == 1, f"local_size is {p.local_size}, it must be odd")
        self.size = p.local_size
        self.alpha = p.alpha
        self.beta = p.beta
        self.within = p.norm_region == p.WITHIN_CHANNEL
        self.ignores_propagate_down = not self.within
        self.k = 1.0 if self.within else p.k

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField:
        return field.through((self.size,) * field.axes) if self.within else field

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self._check_axes(bottoms[0])
        return [bottoms[0]]

    def _check_axes(self, bottom: Sequence[int]) -> None:
        self.check(
            len(bottom) == 4,
            f"the bottom is {format_shape(bottom)}, it must have 4 axes (N, C, H, W)",
        )

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        self._check_axes(x.shape)
        square = x * x
        if self.within:
            share = F.avg_pool2d(square, self.size, 1, self.size // 2) * self.alpha
        else:
            share = self._sum_of_neighbours(square) * (self.alpha / self.size)
        return x * (share + self.k) ** -self.beta

    def _sum_of_neighbours(self, square: Tensor) -> Tensor:
        """Sums over ``size`` channels; twice as fast as pooling along the channel axis."""
        import torch.nn.functional as F

        channels = square.shape[1]
        # Channels that are farther away than there are any add nothing.
        margin = min(self.size // 2, max(channels - 1, 0))
        padded = F.pad(square, (0, 0, 0, 0, margin, margin))
        total = padded.narrow(1, 0, channels)
        for first in range(1, 2 * margin + 1):
            total = total + padded.narrow(1, first, channels)
        return total
