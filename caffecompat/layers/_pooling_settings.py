"""Kernel, stride, pad and dilation in a PoolingParameter."""

from __future__ import annotations

from dataclasses import dataclass

from caffecompat.layers._base import Layer, Message, format_shape

Extents = tuple[int, ...]

SIDES = ("pad_t", "pad_l", "pad_b", "pad_r")
MOST_AXES = 3


@dataclass(frozen=True)
class PoolingSettings:
    """One entry per spatial axis.

    Attributes:
        kernel: None for ``global_pooling``.
        pad, pad_after: the padding before and after the plane.
        dilation: None for 1.
    """

    kernel: Extents | None
    stride: Extents
    pad: Extents
    pad_after: Extents
    dilation: Extents | None


def read_settings(layer: Layer, p: Message, bottom_axes: int) -> PoolingSettings:
    """The settings in the PoolingParameter ``p`` for a bottom of ``bottom_axes`` axes.

    Raises:
        LayerError: the fields contradict each other or the number of axes.
    """
    layer.check(p.axis == 1, f"axis is {p.axis}, the channels must be along axis 1")
    axes = _spatial_axes(layer, p, bottom_axes)
    kernel = _kernel(layer, p, axes)
    stride = _extents(layer, p, "stride", axes)
    pad = _extents(layer, p, "pad", axes)
    after = pad
    if any(p.HasField(side) for side in SIDES):
        named = [n for n in ("pad", "pad_h", "pad_w") if p.HasField(n)] + list(p.pad_list)[:1]
        layer.check(
            not named and axes == 2,
            "pad_l, pad_r, pad_t and pad_b are for two spatial axes and exclude pad",
        )
        pad, after = (p.pad_t, p.pad_l), (p.pad_b, p.pad_r)
    dilation = _list(layer, "dilation", tuple(p.dilation), axes)
    if dilation is not None:
        layer.check(min(dilation) > 0, "dilation is 0, it must be positive")
        dilation = None if set(dilation) == {1} else dilation
    return PoolingSettings(kernel, stride, pad, after, dilation)


def _spatial_axes(layer: Layer, p: Message, bottom_axes: int) -> int:
    """2, or with fields of forks for several axes as many as the bottom has."""
    if not (p.kernel_size_list or p.stride_list or p.pad_list or p.dilation):
        return 2
    axes = bottom_axes - 2
    layer.check(
        1 <= axes <= MOST_AXES,
        f"the bottom has {bottom_axes} axes; windows over {MOST_AXES} spatial axes need "
        f"{MOST_AXES + 2}, over one 3",
    )
    return axes


def _kernel(layer: Layer, p: Message, axes: int) -> Extents | None:
    """Kernel extents; None for ``global_pooling``."""
    named = [name for name in ("kernel_size", "kernel_h", "kernel_w") if p.HasField(name)]
    listed = _list(layer, "kernel_size", tuple(p.kernel_size_list), axes)
    if p.global_pooling:
        named += ["kernel_size"] if listed else []
        layer.check(not named, f"global_pooling and {' and '.join(named)} exclude each other")
        return None
    if listed is None and named in (["kernel_size", "kernel_h"], ["kernel_size", "kernel_w"]):
        # Caffe asks for one of the two forms, and a half of the second is not seen as that form.
        named = ["kernel_size"]
    layer.check(
        named in (["kernel_size"], ["kernel_h", "kernel_w"]) if listed is None else not named,
        f"it has {' and '.join(named) or 'no kernel'}; give kernel_size, or kernel_h and "
        "kernel_w, or global_pooling",
    )
    if listed is not None:
        kernel = listed
    else:
        kernel = (p.kernel_size,) * axes if len(named) == 1 else (p.kernel_h, p.kernel_w)
    layer.check(min(kernel) > 0, f"kernel is {format_shape(kernel)}, it must be positive")
    layer.check(len(kernel) == axes, f"kernel_h and kernel_w are for 2 spatial axes, not {axes}")
    return kernel


def _extents(layer: Layer, p: Message, stem: str, axes: int) -> Extents:
    listed = _list(layer, stem, tuple(getattr(p, f"{stem}_list")), axes)
    named = [name for name in (stem, f"{stem}_h", f"{stem}_w") if p.HasField(name)]
    layer.check(
        named in ([], [stem], [f"{stem}_h", f"{stem}_w"]) if listed is None else not named,
        f"it has {' and '.join(named)}; give {stem}, or both {stem}_h and {stem}_w",
    )
    if listed is not None:
        return listed
    if len(named) == 2:
        layer.check(axes == 2, f"{stem}_h and {stem}_w are for 2 spatial axes, not {axes}")
        return (getattr(p, f"{stem}_h"), getattr(p, f"{stem}_w"))
    return (getattr(p, stem),) * axes


def _list(layer: Layer, name: str, values: Extents, axes: int) -> Extents | None:
    """The values of a repeated field, once per axis; None if there is none."""
    if not values:
        return None
    if len(values) == 1:
        return values * axes
    layer.check(
        len(values) == axes,
        # Once is not enough to say that the windows lie over more than two axes.
        f"{name} is given {len(values)} times for {axes} spatial axes; give it once per spatial "
        "axis",
    )
    return values
