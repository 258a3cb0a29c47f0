"""Convolution: cross-correlation over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import (
    ALONG_BATCH,
    CHANNEL_AXIS,
    Layer,
    Message,
    Shape,
    at_least,
    format_shape,
    register,
)
from caffecompat.layers._convolution_geometry import Geometry, read_geometry
from caffecompat.layers._operation import Convolve
from caffecompat.layers._receptive_field import ReceptiveField

if TYPE_CHECKING:
    from torch import Tensor

OTHER_AXES = "its kernel does not move over the axes of the image"


class BaseConvolution(Layer):
    """The base class of Convolution and Deconvolution: geometry, groups, several bottoms.

    All bottoms have the same shape and use the same weight and bias; there is one top for each.
    """

    bottoms = at_least(1)
    tops = at_least(1)
    parameters = ("weight", "bias")
    fork_fields = tuple(f"convolution_param.pad_{side}" for side in "lrtb")
    # They count only with parameter_compress, which means another definition.
    ignored_fork_fields = tuple(
        f"convolution_param.quantization_kmean_cluster_{what}_file"
        for what in ("centers", "indices")
    )
    in_place = False
    checks_blobs = True
    prefers_channels_last = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = self.read(message)
        self.check(
            len(message.top) == len(bottoms),
            f"it has {len(bottoms)} bottoms and {len(message.top)} tops; give one top for each "
            "bottom",
        )
        self.geometry = self.read_geometry(p, bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.geometry.channel_axis == 0 else None
        self.channels = bottoms[0][self.geometry.channel_axis]
        self.group = p.group
        self.outputs = p.num_output
        self.check(p.num_output > 0, "num_output is missing or 0, it must be positive")
        self.check(p.group > 0, "group is 0, it must be positive")
        for what, number in (("bottom's channels", self.channels), ("num_output", p.num_output)):
            self.check(
                number % p.group == 0, f"{what} {number} is not a multiple of group {p.group}"
            )
        self.parameter("weight", self.weight_shape(p.num_output), p.weight_filler)
        if p.bias_term:
            self.parameter("bias", (p.num_output,), p.bias_filler)

    def read(self, message: Message) -> Message:
        """The message with the settings."""
        return message.convolution_param

    def read_geometry(self, p: Message, bottom: Shape) -> Geometry:
        """The geometry in the settings, for the shape of a bottom."""
        return read_geometry(self, p, bottom)

    def weight_shape(self, outputs: int) -> Shape:
        raise NotImplementedError

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The top (B, num_output, ...) of a bottom (B, C, spatial ...)."""
        raise NotImplementedError

    def product_count(self, bottom: Shape, top: Shape) -> int:
        """Multiplications with a weight for one bottom and its top."""
        raise NotImplementedError

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return sum(self.product_count(b, t) for b, t in zip(bottoms, tops, strict=True))

    def forward(
        self, *bottoms: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        self._check_shapes([x.shape for x in bottoms])
        geometry = self.geometry
        if geometry.channel_axis == CHANNEL_AXIS and len(bottoms) == 1:
            return self.convolve(bottoms[0], weight, bias)
        tops = tuple(
            geometry.restore_batch_axes(
                self.convolve(geometry.merge_batch_axes(x), weight, bias), x
            )
            for x in bottoms
        )
        return tops if len(tops) > 1 else tops[0]

    def moves_over_image(self, field: ReceptiveField) -> bool:
        """Whether the kernel's spatial axes are those of ``field``."""
        return self.geometry.channel_axis == CHANNEL_AXIS and self.geometry.axes == field.axes

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape] | None:
        self._check_shapes(bottoms)
        extents = self.top_extents((1, *bottoms[0][self.geometry.channel_axis :]))
        if extents is None:
            return None
        outer = bottoms[0][: self.geometry.channel_axis]
        return [(*outer, self.outputs, *extents)] * len(bottoms)

    def top_extents(self, bottom: Shape) -> Sequence[int] | None:
        """The spatial extents of the top of a bottom (B, C, spatial ...); None if unknown."""
        return None

    def _check_shapes(self, bottoms: Sequence[Sequence[int]]) -> None:
        shape = bottoms[0]
        axes = self.geometry.channel_axis + 1 + self.geometry.axes
        # Before each pass: messages are made for what is refused alone.
        if len(shape) != axes or shape[self.geometry.channel_axis] != self.channels:
            self.refuse(
                f"the weight was made for {axes} axes and {self.channels} channels, but the bottom "
                f"is {format_shape(shape)}"
            )
        for other in bottoms[1:]:
            if other != shape:
                self.refuse(
                    f"all bottoms must have the same shape, found {format_shape(shape)} and "
                    f"{format_shape(other)}"
                )


@register("Convolution")
class Convolution(BaseConvolution):
    """Cross-correlation of each bottom with a bank of kernels, plus bias.

    Bottom (batch ..., C, spatial ...), ``axis`` at C, becomes (batch ..., num_output, ...) with
    extents floor((in + 2 pad - kernel_extent) / stride) + 1, where kernel_extent is
    dilation (kernel - 1) + 1. The weight is (num_output, C / group, kernel ...). There may be any
    number of spatial axes; without any it is a fully connected layer with groups. With the fields
    ``pad_l``, ``pad_r``, ``pad_t`` and ``pad_b`` of Synopsys' Caffe each side has its own padding.
    Source: Caffe's Convolution layer.
    """

    def weight_shape(self, outputs: int) -> Shape:
        return (outputs, self.channels // self.group, *self.geometry.kernel)

    def product_count(self, bottom: Shape, top: Shape) -> int:
        return prod(top) * prod(self.weight_shape(1)[1:])

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField | str:
        if not self.moves_over_image(field):
            return OTHER_AXES
        return field.through(self.geometry.kernel_extent, self.geometry.stride)

    def top_extents(self, bottom: Shape) -> Sequence[int] | None:
        g = self.geometry
        return g.positions(self, bottom) if g.sides is None else None

    def half_parameters(self) -> tuple[str, ...]:
        return ("weight",) if type(self) is Convolution else ()

    def fusible_operation(self) -> Convolve | None:
        g, plain = self.geometry, type(self) is Convolution and len(self.specs) == 2
        if not plain or g.axes != 2 or g.channel_axis != CHANNEL_AXIS or g.sides is not None:
            return None
        stride, pad, dilation = ((h, w) for h, w in (g.stride, g.pad, g.dilation))
        return Convolve(stride, pad, dilation, self.group)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        import torch.nn.functional as F

        g = self.geometry
        axes = g.axes
        if axes == 0:
            y = F.conv1d(x.unsqueeze(-1), weight.unsqueeze(-1), bias, groups=self.group)
            return y.squeeze(-1)
        if axes > 3:
            return correlate(g.windows(self, x), weight, bias, axes, self.group)
        if g.sides is not None:
            x = g.pad_sides(x)
        more = g.extra_padding(self, x.shape)
        if any(more):
            x = F.pad(x, [pad for extra in reversed(more) for pad in (0, extra)])
        operator = F.conv2d if axes == 2 else F.conv1d if axes == 1 else F.conv3d
        return operator(x, weight, bias, g.stride, g.pad, g.dilation, self.group)


def correlate(
    windows: Tensor, weight: Tensor, bias: Tensor | None, axes: int, group: int
) -> Tensor:
    """Grouped products of (B, C, positions ..., kernel ...) with (O, C / group, kernel ...)."""
    import torch

    batch, channels = windows.shape[:2]
    positions = windows.shape[2 : 2 + axes]
    kernel = prod(windows.shape[2 + axes :])
    columns = windows.reshape(batch, group, channels // group, prod(positions), kernel)
    filters = weight.reshape(group, weight.shape[0] // group, channels // group, kernel)
    y = torch.einsum("bgcpk,gock->bgop", columns, filters)
    y = y.reshape(batch, weight.shape[0], *positions)
    return y if bias is None else y + bias.view(-1, *(1,) * axes)
