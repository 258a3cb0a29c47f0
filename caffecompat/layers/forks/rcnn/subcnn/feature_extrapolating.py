"""FeatureExtrapolating of SubCNN: features of image scales between those that were computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("FeatureExtrapolating", fork="SubCNN")
class FeatureExtrapolating(Layer):
    """(N * B, C, H, W), features of N images at B scales, as (N * S, C, H, W) at S scales.

    S = (B - 1) * ``num_per_octave`` + 1; B is ``num_scale_base``. ``scale_string`` lists the B
    scales, and the others divide the space between two of them evenly. Features of a further scale
    are those of the nearest given one (of two equally near ones the later), resized about the upper
    left corner by the ratio of the scales: the value at (y, x) is bilinear at (y / ratio,
    x / ratio), and 0 beyond the map. Maps beyond a multiple of B are left out. Source:
    feature_extrapolating_layer of SubCNN.
    """

    in_place = False
    fork_fields = ("feature_extrapolating_param",)
    batch_coupling = "makes several items of each item of the batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.feature_extrapolating_param
        self.given, between = int(p.num_scale_base), int(p.num_per_octave)
        try:
            scales = [float(word) for word in p.scale_string.split()]
        except ValueError:
            scales = []
        self.check(
            0 < self.given <= len(scales) and between > 0 and min(scales) > 0,
            f"scale_string is {p.scale_string!r}, num_scale_base {self.given} and num_per_octave "
            f"{between}; expected positive scales, as many as num_scale_base says at least",
        )
        # Of each scale of the top: the given scale whose features it takes, and the ratio to it.
        self.sources: list[tuple[int, float]] = []
        for i in range((self.given - 1) * between + 1):
            base, step = divmod(i, between)
            scale = scales[base]
            if step:
                scale += step * (scales[base + 1] - scales[base]) / between
            nearest = floor(i / between + 0.5)
            self.sources.append((nearest, scale / scales[nearest]))

    def forward(self, x: Tensor) -> Tensor:
        import torch

        self.check(x.dim() == 4, f"its bottom is {format_shape(x.shape)}, expected N x C x H x W")
        count = x.shape[0] // self.given
        images = x[: count * self.given].reshape(count, self.given, *x.shape[1:])
        parts = [
            images[:, at] if ratio == 1 else _resized(images[:, at], ratio)
            for at, ratio in self.sources
        ]
        return torch.stack(parts, 1).flatten(0, 1)


def _resized(maps: Tensor, ratio: float) -> Tensor:
    """Maps (N, C, H, W) resized by ``ratio`` about the upper left corner, in the same shape."""
    rows, columns = (_weights(maps, extent, ratio) for extent in maps.shape[2:])
    return (rows @ maps) @ columns.transpose(0, 1)


def _weights(like: Tensor, extent: int, ratio: float) -> Tensor:
    """The share (extent, extent) of each position of the map in each of the resized one."""
    import torch

    at = torch.arange(extent, dtype=torch.float64, device=like.device) / ratio
    distance = (at[:, None] - torch.arange(extent, device=like.device)).abs()
    shares = (1 - distance).clamp(min=0) * (at < extent)[:, None]
    return shares.to(like.dtype)
