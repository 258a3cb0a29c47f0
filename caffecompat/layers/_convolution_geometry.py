"""Kernel, stride, pad and dilation of Convolution, Deconvolution and Im2col."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape

if TYPE_CHECKING:
    from torch import Tensor

Extents = tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over the spatial axes; one entry per spatial axis, possibly none.

    Attributes:
        channel_axis: the axes before it are batch axes, all axes after it are spatial.
        kernel, stride, pad, dilation: in elements of the input.
        sides: the padding before and after each axis where a fork gives it for each side; ``pad``
            is 0 then. A negative one cuts elements off.
    """

    channel_axis: int
    kernel: Extents
    stride: Extents
    pad: Extents
    dilation: Extents
    sides: tuple[tuple[int, int], ...] | None = None

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def kernel_extent(self) -> Extents:
        """The extent of the dilated kernel: dilation (kernel - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def padding(self) -> str:
        """The padding as its fields state it, for messages."""
        if self.sides is None:
            return f"pad {format_shape(self.pad)}"
        (top, bottom), (left, right) = self.sides
        return f"pad_t {top}, pad_b {bottom}, pad_l {left} and pad_r {right}"

    def merge_batch_axes(self, x: Tensor) -> Tensor:
        """``x`` with one batch axis: (B, C, spatial ...)."""
        if self.channel_axis == 1:
            return x
        return x.flatten(0, self.channel_axis - 1) if self.channel_axis else x.unsqueeze(0)

    def restore_batch_axes(self, y: Tensor, like: Tensor) -> Tensor:
        """``y`` (B, C, ...) with the batch axes that ``like`` has."""
        if self.channel_axis == 1:
            return y
        return y.reshape(like.shape[: self.channel_axis] + y.shape[1:])

    def pad_sides(self, x: Tensor) -> Tensor:
        """``x`` (B, C, spatial ...) with the padding of :attr:`sides`."""
        import torch.nn.functional as F

        if self.sides is None:
            return x
        return F.pad(x, [pad for side in reversed(self.sides) for pad in side])

    def extra_padding(self, layer: Layer, bottom: Sequence[int]) -> Extents:
        """The zeros to add after the padded input, per spatial axis.

        ``bottom`` is (B, C, spatial ...), with the padding of :attr:`sides`. Caffe's division of
        the output size truncates toward zero. A kernel that is larger than the padded input by less
        than one stride therefore gives one position, which reads zeros outside of the input.

        Raises:
            LayerError: the kernel is too large.
        """
        out = []
        for kernel, stride, pad, dilation, size in zip(
            self.kernel, self.stride, self.pad, self.dilation, bottom[2:], strict=True
        ):
            more = max(0, dilation * (kernel - 1) + 1 - 2 * pad - size)
            if more >= stride:
                layer.refuse(
                    f"a kernel that covers {format_shape(self.kernel_extent)} does not fit into "
                    f"the bottom {format_shape(self._without_sides(bottom))} with {self.padding}; "
                    "the input is too small"
                )
            out.append(more)
        return tuple(out)

    def _without_sides(self, padded: Sequence[int]) -> Sequence[int]:
        """The shape that :meth:`pad_sides` made ``padded`` of."""
        if self.sides is None:
            return padded
        plane = (size - sum(side) for size, side in zip(padded[2:], self.sides, strict=True))
        return (*padded[:2], *plane)

    def positions(self, layer: Layer, bottom: Sequence[int]) -> Extents:
        """The positions of the kernel along each spatial axis of an input (B, C, spatial ...).

        Raises:
            LayerError: the kernel is too large.
        """
        more = self.extra_padding(layer, bottom)
        settings = (bottom[2:], self.pad, more, self.kernel_extent, self.stride)
        return tuple((n + 2 * p + m - k) // s + 1 for n, p, m, k, s in zip(*settings, strict=True))

    def windows(self, layer: Layer, x: Tensor) -> Tensor:
        """The elements under the kernel at each position, including padding.

        (B, C, spatial ...) becomes (B, C, positions ..., kernel ...), for any number of axes.
        """
        import torch.nn.functional as F

        pads: list[int] = []
        for pad, more in zip(self.pad, self.extra_padding(layer, x.shape), strict=True):
            pads = [pad, pad + more, *pads]
        if any(pads):
            x = F.pad(x, pads)
        for i, (kernel_extent, stride, dilation) in enumerate(
            zip(self.kernel_extent, self.stride, self.dilation, strict=True)
        ):
            x = x.unfold(2 + i, kernel_extent, stride)[..., ::dilation]
        return x


def read_geometry(layer: Layer, p: Message, bottom: Shape) -> Geometry:
    """The geometry in a ConvolutionParameter for a bottom of shape ``bottom``.

    ``kernel_size``, ``stride``, ``pad`` and ``dilation`` are given once, or once per spatial axis.
    The fields with ``_h`` and ``_w`` are for two spatial axes and exclude the plain field. If only
    one of ``pad_h`` and ``pad_w`` is given, the other is 0; for kernel and stride this is an error.

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
        sides=_sides(layer, p, axes),
    )
    for name in ("kernel", "stride", "dilation"):
        extents = getattr(geometry, name)
        layer.check(
            all(extent > 0 for extent in extents),
            f"{name} is {format_shape(extents)}, every extent must be positive"
            + (f" (give both {name}_h and {name}_w)" if _has_pair(p, name) else ""),
        )
    return geometry


def _sides(layer: Layer, p: Message, axes: int) -> tuple[tuple[int, int], ...] | None:
    """The fields of Synopsys' Caffe that pad each side by its own amount."""
    if not any(p.HasField(name) for name in ("pad_l", "pad_r", "pad_t", "pad_b")):
        return None
    layer.check(
        axes == 2 and not p.pad and not p.HasField("pad_h") and not p.HasField("pad_w"),
        "pad_l, pad_r, pad_t and pad_b are for 2 spatial axes and exclude pad, pad_h and pad_w",
    )
    return ((p.pad_t, p.pad_b), (p.pad_l, p.pad_r))


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
