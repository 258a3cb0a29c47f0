"""Kernel, stride, pad and dilation, as Convolution, Deconvolution and Im2col read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape

if TYPE_CHECKING:
    from torch import Tensor

Extents = tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over the spatial axes; one entry per axis, possibly none.

    Attributes:
        channel_axis: axes before it are batch, all after it are spatial.
        kernel, stride, pad, dilation: in steps of the input.
    """

    channel_axis: int
    kernel: Extents
    stride: Extents
    pad: Extents
    dilation: Extents

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def reach(self) -> Extents:
        """How much of the input one position covers: dilation (kernel - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def joined(self, x: Tensor) -> Tensor:
        """``x`` with one batch axis: (B, C, spatial ...)."""
        if self.channel_axis == 1:
            return x
        return x.flatten(0, self.channel_axis - 1) if self.channel_axis else x.unsqueeze(0)

    def parted(self, y: Tensor, like: Tensor) -> Tensor:
        """``y`` (B, C, ...) with the batch axes that ``like`` has."""
        if self.channel_axis == 1:
            return y
        return y.reshape(like.shape[: self.channel_axis] + y.shape[1:])

    def shortfall(self, layer: Layer, x: Tensor) -> Extents:
        """How far the kernel stands out beyond the padded (B, C, spatial ...) input, per axis.

        Caffe's division of the output size truncates toward zero, so a kernel that is too large by
        less than one stride still gives one position, which reads zeros outside.

        Raises:
            LayerError: the kernel is larger than that.
        """
        out = tuple(
            max(0, reach - 2 * pad - size)
            for reach, pad, size in zip(self.reach, self.pad, x.shape[2:], strict=True)
        )
        layer.check(
            all(o < s for o, s in zip(out, self.stride, strict=True)),
            f"a kernel that covers {format_shape(self.reach)} does not fit the bottom "
            f"{format_shape(x.shape)} with pad {format_shape(self.pad)}; the input is too small",
        )
        return out

    def windows(self, layer: Layer, x: Tensor) -> Tensor:
        """What the kernel sees at each position, padding included.

        (B, C, spatial ...) becomes (B, C, positions ..., kernel ...), for any number of axes.
        """
        import torch.nn.functional as F

        pads: list[int] = []
        for pad, more in zip(self.pad, self.shortfall(layer, x), strict=True):
            pads = [pad, pad + more, *pads]
        if any(pads):
            x = F.pad(x, pads)
        for i, (reach, stride, dilation) in enumerate(
            zip(self.reach, self.stride, self.dilation, strict=True)
        ):
            x = x.unfold(2 + i, reach, stride)[..., ::dilation]
        return x


def read_geometry(layer: Layer, p: Message, bottom: Shape) -> Geometry:
    """The geometry in a ConvolutionParameter for a bottom of shape ``bottom``.

    ``kernel_size``, ``stride``, ``pad`` and ``dilation`` stand once, or once per spatial axis. The
    forms with ``_h`` and ``_w`` are for two axes and exclude the plain one; of pads the missing
    one is 0, while a missing kernel or stride is refused.

    Raises:
        LayerError: the fields contradict each other or the number of axes.
    """
    channel_axis = layer.axis(p.axis, bottom)
    axes = len(bottom) - channel_axis - 1
    geometry = Geometry(
        channel_axis,
        kernel=_extents(layer, p, "kernel_size", "kernel", axes, default=None),
        stride=_extents(layer, p, "stride", "stride", axes, default=1),
        pad=_extents(layer, p, "pad", "pad", axes, default=0),
        dilation=_plain_extents(layer, p, "dilation", axes, default=1),
    )
    for name in ("kernel", "stride", "dilation"):
        extents = getattr(geometry, name)
        layer.check(
            all(extent > 0 for extent in extents),
            f"{name} is {format_shape(extents)}, every extent must be positive"
            + (f" (give both {name}_h and {name}_w)" if _has_pair(p, name) else ""),
        )
    return geometry


def _extents(
    layer: Layer, p: Message, plain: str, stem: str, axes: int, default: int | None
) -> Extents:
    if not _has_pair(p, stem):
        return _plain_extents(layer, p, plain, axes, default)
    pair = f"{stem}_h and {stem}_w"
    layer.check(axes == 2, f"{pair} are for 2 spatial axes, but the bottom has {axes}; use {plain}")
    layer.check(len(getattr(p, plain)) == 0, f"{plain} and {pair} exclude each other")
    return (getattr(p, f"{stem}_h"), getattr(p, f"{stem}_w"))


def _plain_extents(layer: Layer, p: Message, name: str, axes: int, default: int | None) -> Extents:
    values = tuple(getattr(p, name))
    if not values and default is not None:
        return (default,) * axes
    if len(values) == 1:
        return values * axes
    layer.check(
        len(values) == axes,
        f"{name} is given {len(values)} times for {axes} spatial axes; give it once, or once "
        "per spatial axis",
    )
    return values


def _has_pair(p: Message, stem: str) -> bool:
    if stem == "dilation":
        return False
    return bool(p.HasField(f"{stem}_h") or p.HasField(f"{stem}_w"))
