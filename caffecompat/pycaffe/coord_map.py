"""Where the pixels of a top lie in another one: what ``caffe.coord_map`` is in pycaffe.

A coordinate map of a layer is (axis, scale, shift): position x of the bottom is position
scale * x + shift of the top, on all axes from ``axis`` on. Scale and shift are numbers or arrays
with one number per spatial axis; an axis of None fits all. :func:`crop` makes the Crop layer that
aligns one top of a :class:`~caffecompat.pycaffe.net_spec.NetSpec` with another.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from caffecompat.errors import CaffeError
from caffecompat.pycaffe.net_spec import Function, Top
from caffecompat.pycaffe.net_spec import layers as L

CoordinateMap: TypeAlias = tuple[int | None, Any, Any]

# Types whose tops have the coordinates of their bottoms.
PASS_THROUGH_LAYERS = [
    *("AbsVal", "BatchNorm", "Bias", "BNLL", "Clip", "Dropout", "Eltwise", "ELU", "Exp", "LRN"),
    *("Log", "MVN", "PReLU", "Power", "ReLU", "Scale", "Sigmoid", "Split", "Swish", "TanH"),
    "Threshold",
]
_SHRINKING = ("Convolution", "Pooling", "Im2col")
_GROWING = "Deconvolution"
_CROP = "Crop"
_SIDES = ("pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w")


class UndefinedMapException(CaffeError):
    """A layer of a type without a coordinate map."""


class AxisMismatchException(CaffeError):
    """Two layers in a row whose spatial axes begin at different ones."""


class UnconnectedTopsError(CaffeError, RuntimeError):
    """Two tops that no chain of layers with coordinate maps connects."""


class CropError(CaffeError, AssertionError):
    """Two tops that no crop aligns."""


def conv_params(fn: Function) -> tuple[int, Any, Any, Any]:
    """Axis, stride, extent of the dilated kernel, and pad of a convolution or pooling layer.

    Each but the axis is an array of one number, or of one per spatial axis.

    Raises:
        CropError: the layer has no ``kernel_size``; the forms with ``_h`` and ``_w`` have no map.
    """
    params = fn.params.get("convolution_param", fn.params)
    if "pooling_param" in fn.params:
        params = fn.params["pooling_param"]
    sides = [name for name in _SIDES if name in params]
    if sides:
        raise CropError(
            f"cropping does not support legacy _h/_w params: a {fn.type_name} layer has "
            f"{', '.join(sides)}; give a list instead, such as kernel_size=[3, 5]"
        )
    if "kernel_size" not in params:
        raise CropError(f"a {fn.type_name} layer has no kernel_size, which its map needs")
    axis = params.get("axis", 1)
    kernel = np.array(params["kernel_size"], ndmin=1)
    dilation = np.array(params.get("dilation", 1), ndmin=1)
    stride = np.array(params.get("stride", 1), ndmin=1)
    pad = np.array(params.get("pad", 0), ndmin=1)
    return axis, stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, Any]:
    """Axis and offset of a Crop layer; the offset is an array."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> CoordinateMap:
    """The coordinate map of a layer.

    Raises:
        UndefinedMapException: layers of its type have none.
    """
    if fn.type_name in _SHRINKING:
        axis, stride, kernel, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    if fn.type_name == _GROWING:
        axis, stride, kernel, pad = conv_params(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return None, 1, 0
    if fn.type_name == _CROP:
        axis, offset = crop_params(fn)
        # The axes from the first cropped one on are spatial, and the one before counts as in
        # convolutions, whose axis is that of channels.
        return axis - 1, 1, -offset
    raise UndefinedMapException(f"layers of type {fn.type_name} have no coordinate map")


def compose(base_map: CoordinateMap, next_map: CoordinateMap) -> CoordinateMap:
    """The map of applying ``next_map``, then ``base_map``.

    Raises:
        AxisMismatchException: they are maps of different axes.
    """
    axis1, scale1, shift1 = base_map
    axis2, scale2, shift2 = next_map
    if axis1 is not None and axis2 is not None and axis1 != axis2:
        raise AxisMismatchException(
            f"two layers in a row have their spatial axes after axis {axis1} and axis {axis2}"
        )
    axis = axis2 if axis1 is None else axis1
    return axis, scale1 * scale2, scale1 * shift2 + shift1


def inverse(coord_map: CoordinateMap) -> CoordinateMap:
    """The map in the other direction."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordinateMap:
    """The map from the coordinates of one top to those of another.

    Both are followed back to a top that they have in common.

    Raises:
        UnconnectedTopsError: there is none; layers without a map end the search.
        AxisMismatchException: see :func:`compose`.
    """
    from_maps: dict[Top, CoordinateMap] = {top_from: (None, 1, 0)}
    frontier = [top_from]
    while frontier:
        frontier.extend(_follow_back(frontier.pop(), from_maps))
    to_maps: dict[Top, CoordinateMap] = {top_to: (None, 1, 0)}
    frontier = [top_to]
    while frontier:
        top = frontier.pop()
        if top in from_maps:
            return compose(to_maps[top], inverse(from_maps[top]))
        frontier.extend(_follow_back(top, to_maps))
    raise UnconnectedTopsError(
        "Could not compute map between tops; are they connected by spatial layers?"
    )


def _follow_back(top: Top, maps: dict[Top, CoordinateMap]) -> list[Top]:
    """Adds the maps of the bottoms of a top's layer; returns those that were not known."""
    # Only the first bottom of a Crop layer is cropped.
    bottoms = top.fn.inputs[:1] if top.fn.type_name == _CROP else top.fn.inputs
    try:
        step = coord_map(top.fn) if bottoms else None
    except UndefinedMapException:
        return []
    new = [bottom for bottom in bottoms if bottom not in maps]
    for bottom in bottoms:
        maps[bottom] = compose(maps[top], step)  # type: ignore[arg-type]
    return new


def crop(top_from: Top, top_to: Top) -> Any:
    """A Crop layer that cuts ``top_from`` to the size of ``top_to``, aligned with it.

    Raises:
        CropError: one is larger than the other by a factor, or the offset is negative or no
            integer.
        UnconnectedTopsError, AxisMismatchException: see :func:`coord_map_from_to`.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    if not np.all(np.equal(scale, 1)):
        raise CropError(f"scale mismatch on crop (a = {scale})")
    if not np.all(np.less_equal(shift, 0)):
        raise CropError(f"cannot crop negative offset (b = {shift})")
    if not np.all(np.equal(np.round(shift), shift)):
        raise CropError(f"cannot crop noninteger offset (b = {shift})")
    if axis is None:
        raise CropError("no layer between the two tops has spatial axes, so there is none to crop")
    offset = [int(-value) for value in np.atleast_1d(np.round(shift))]
    return L.Crop(top_from, top_to, crop_param={"axis": axis + 1, "offset": offset})
