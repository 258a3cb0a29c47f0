"""Resample of FlowNet: images resized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers._rounding import round_away

if TYPE_CHECKING:
    from torch import Tensor

# Elements on each side of the nearest one that a kernel reaches before it is widened.
REACH = {"LINEAR": 2, "CUBIC": 4}


@register("Resample", fork="FlowNet")
class Resample(Layer):
    """The first bottom (N, C, H, W), resized to ``height`` x ``width`` or to the second bottom's.

    ``type`` NEAREST takes the element next to the source position, LINEAR a triangle, CUBIC a cubic
    kernel (a = -1/2); weights outside of the image are left out and the others add up to 1. Where
    the top is smaller along one axis, ``antialias`` widens the kernel by the ratio of the sizes.
    The source position of column j is j fx + fy / 2 - 1/2, with fx and fy the ratios of widths and
    of heights, and that of row i is i fy + fx / 2 - 1/2, as in the original. It has no gradient.
    ``factor`` is not read. Source: FlowNet's Resample layer, which refuses AREA too.
    """

    bottoms = between(1, 2)
    in_place = False
    fork_fields = ("resample_param",)
    differentiable = (False,)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.resample_param
        self.kind = p.ResampleType.Name(p.type)
        self.antialias = p.antialias
        self.check(
            self.kind in ("NEAREST", *REACH),
            f"type is {self.kind}; NEAREST, LINEAR and CUBIC are supported",
        )
        self.size = (p.height, p.width)
        self.check(
            len(bottoms) == 2 or min(self.size) > 0,
            "height and width are missing; give both, or a second bottom with that size",
        )

    def forward(self, x: Tensor, *like: Tensor) -> Tensor:
        self.check(
            x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes (N, C, H, W)"
        )
        x = x.detach()
        height, width = (like[0].shape[2], like[0].shape[3]) if like else self.size
        fy, fx = x.shape[2] / height, x.shape[3] / width
        shrinks = (fx > 1 or fy > 1) and self.antialias
        down = self._weights(x, 2, height, (fy, fx), shrinks)
        across = self._weights(x, 3, width, (fx, fy), shrinks)
        return down @ x @ across.t()

    def _weights(
        self, x: Tensor, axis: int, count: int, factors: tuple[float, float], shrinks: bool
    ) -> Tensor:
        """(count, extent) weights along one axis; ``factors`` are its own and the other axis'."""
        import torch

        own, other = factors
        extent = x.shape[axis]
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        source = torch.arange(count, device=x.device, dtype=exact) * own + (other / 2 - 0.5)
        nearest = round_away(source)
        places = torch.arange(extent, device=x.device, dtype=exact)
        if self.kind == "NEAREST":
            return (places == nearest.clamp(0, extent - 1).unsqueeze(1)).to(x.dtype)
        scale = 1 / own if shrinks else 1.0
        reach = 2 if own < 1 else -(-REACH[self.kind] // scale)
        distance = (source.unsqueeze(1) - places) * scale
        weights = _triangle(distance) if self.kind == "LINEAR" else _cubic(distance)
        weights = weights.where((places - nearest.unsqueeze(1)).abs() <= reach, 0)
        total = weights.sum(1, keepdim=True)
        return (weights / total.where(total != 0, 1)).to(x.dtype)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    import torch

    x = x.abs()
    inner = x * x * (1.5 * x - 2.5) + 1
    outer = x * (x * (-0.5 * x + 2.5) - 4) + 2
    return torch.where(x <= 1, inner, outer.where(x < 2, 0))
