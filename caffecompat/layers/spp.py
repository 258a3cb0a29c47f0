"""SPP: spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._pooling_windows import Windows
from caffecompat.layers.pooling import average, maximum

if TYPE_CHECKING:
    from torch import Tensor


@register("SPP")
class SPP(Layer):
    """Pooling into 1 x 1, 2 x 2, 4 x 4, ... bins, flattened and concatenated.

    Bottom (N, C, H, W). Level l of ``pyramid_height`` has 2^l bins per side: kernel and stride are
    ceil(size / bins), pad is floor((kernel bins - size + 1) / 2). Top (N, C times the number of all
    bins), or (N, C, 1, 1) if the height is 1. Source: Caffe's SPP layer; He et al. (2014).
    """

    in_place = False

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.spp_param
        method = p.PoolMethod.Name(p.pool)
        self.check(method != "STOCHASTIC", "pool STOCHASTIC is not supported; use MAX or AVE")
        self.pool = maximum if method == "MAX" else average
        self.height = p.pyramid_height
        self.check(self.height > 0, "pyramid_height is missing or 0, it must be positive")

    def forward(self, x: Tensor) -> Tensor:
        import torch

        self.check(
            x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes (N, C, H, W)"
        )
        levels = [self.pool(x, self.windows(x.shape, 2**level)) for level in range(self.height)]
        if self.height == 1:
            return levels[0]
        return torch.cat([level.flatten(1) for level in levels], 1)

    def windows(self, shape: Sequence[int], bins: int) -> Windows:
        """The windows of a level with ``bins`` by ``bins`` of them, in a bottom of ``shape``."""
        size = (shape[2], shape[3])
        kernel = (-(-size[0] // bins), -(-size[1] // bins))
        pad = tuple((k * bins - n + 1) // 2 for k, n in zip(kernel, size, strict=True))
        self.check(
            pad[0] < kernel[0] and pad[1] < kernel[1],
            f"the bottom {format_shape(shape)} is too small for {bins} x {bins} bins; reduce "
            "pyramid_height",
        )
        return Windows(size, kernel, kernel, (pad[0], pad[1]))
