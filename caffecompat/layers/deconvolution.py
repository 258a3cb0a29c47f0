"""Deconvolution: the transpose of Convolution over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import Shape, format_shape, register
from caffecompat.layers._receptive_field import ReceptiveField
from caffecompat.layers.convolution import OTHER_AXES, BaseConvolution, correlate

if TYPE_CHECKING:
    from torch import Tensor


@register("Deconvolution")
class Deconvolution(BaseConvolution):
    """The sum of kernels, one for each element of a bottom and multiplied by it, plus bias.

    Bottom (batch ..., C, spatial ...), ``axis`` at C, becomes (batch ..., num_output, ...) with
    extents stride (in - 1) + kernel_extent - 2 pad, where kernel_extent is
    dilation (kernel - 1) + 1. The weight is (C, num_output / group, kernel ...).
    Source: Caffe's Deconvolution layer.
    """

    param_fields: ClassVar[tuple[str, ...]] = ("convolution_param",)

    def weight_shape(self, outputs: int) -> Shape:
        return (self.channels, outputs // self.group, *self.geometry.kernel)

    def product_count(self, bottom: Shape, top: Shape) -> int:
        return prod(bottom) * prod(self.weight_shape(self.outputs)[1:])

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField | str:
        if not self.moves_over_image(field):
            return OTHER_AXES
        extent, stride = self.geometry.kernel_extent, self.geometry.stride
        window = [-(-r // s) for r, s in zip(extent, stride, strict=True)]
        return field.through(window, [Fraction(1, s) for s in stride])

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        import torch.nn.functional as F

        y = self._spread(x, weight, bias)
        sides = self.geometry.sides
        # Padding cuts the top off.
        return y if sides is None else F.pad(y, [-pad for side in reversed(sides) for pad in side])

    def _spread(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        import torch.nn.functional as F

        g = self.geometry
        self.top_extents(tuple(x.shape))
        if g.axes == 0:
            y = F.conv_transpose1d(x.unsqueeze(-1), weight.unsqueeze(-1), bias, groups=self.group)
            return y.squeeze(-1)
        if g.axes > 3:
            return self._by_correlation(x, weight, bias)
        spread = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[g.axes - 1]
        return spread(x, weight, bias, g.stride, g.pad, 0, self.group, g.dilation)

    def top_extents(self, bottom: Shape) -> Sequence[int]:
        g = self.geometry
        pads = [sum(side) for side in g.sides] if g.sides else [2 * pad for pad in g.pad]
        out = [
            stride * (size - 1) + extent - pad
            for size, stride, extent, pad in zip(
                bottom[2:], g.stride, g.kernel_extent, pads, strict=True
            )
        ]
        self.check(
            all(extent > 0 for extent in out),
            f"the top of the bottom {format_shape(bottom)} would be empty with {g.padding}; "
            "reduce the padding",
        )
        return out

    def _by_correlation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The bottom with zeros between its elements, correlated with the flipped kernel."""
        g = self.geometry
        sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], g.stride, strict=True)]
        spread = x.new_zeros(*x.shape[:2], *sizes)
        places = tuple(slice(None, None, step) for step in (1, 1, *g.stride))
        spread[places] = x
        turned = replace(
            g,
            stride=(1,) * g.axes,
            pad=tuple(extent - 1 - pad for extent, pad in zip(g.kernel_extent, g.pad, strict=True)),
        )
        kernel = weight.flip(tuple(range(2, weight.dim())))
        kernel = kernel.unflatten(0, (self.group, -1)).transpose(1, 2).flatten(0, 1)
        return correlate(turned.windows(self, spread), kernel, bias, g.axes, self.group)
