"""Layers that resize planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffecompat.export.onnx_graph.coordinates import extent, positions
from caffecompat.export.onnx_graph.graph import Value
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers

FLOAT, INT64 = 1, 7
SPATIAL = (2, 3)


@writers.register("Interp")
def interp(at: OnnxLayer) -> None:
    """Bilinear with aligned corners, of a plane that may be cropped first."""
    layer, x = at.layer, at.x
    if layer.begin or layer.end:
        at.need_fixed(at.bottom, SPATIAL)
        ends = [extent - layer.end for extent in at.bottom.shape[2:]]
        x = at.node(
            "Slice",
            x,
            at.integers("start", [layer.begin] * 2),
            at.integers("ends", ends),
            at.integers("axes", SPATIAL),
        )
    if len(at.bottoms) > 1:
        _to_plane_of(at, x, at.bottoms[1], layer.begin + layer.end)
    elif any(at.top.varies(axis) for axis in SPATIAL):
        # (h - 1) / shrink + 1, then h + (h - 1) (zoom - 1).
        shrink, zoom = layer.shrink or 1, layer.zoom or 1
        less = 0 if layer.whole and layer.shrink is None else 1
        extents = at.node("Shape", x, start=2)
        steps = [("Sub", less, 0), ("Div", shrink, 1), ("Mul", zoom, 1), ("Add", less, 0)]
        for operator, value, neutral in steps:
            if value != neutral:
                extents = at.node(operator, extents, at.integers(operator, [value]))
        _resize(at, x, extents, _fixed(at.bottom, layer.begin + layer.end))
    else:
        size = at.integers("size", at.top.shape[2:])
        _resize(at, x, size, _fixed(at.bottom, layer.begin + layer.end))


@writers.register("BilinearInterpolation")
def bilinear_interpolation(at: OnnxLayer) -> None:
    _to_plane_of(at, at.x, at.bottoms[1])


def _to_plane_of(at: OnnxLayer, x: str, reference: Value, cut: int = 0) -> None:
    if any(reference.varies(axis) for axis in SPATIAL):
        size = at.node("Shape", reference.name, start=2, end=4)
    else:
        size = at.integers("size", reference.shape[2:4])
    _resize(at, x, size, _fixed(at.bottom, cut))


def _fixed(plane: Value, cut: int) -> list[int]:
    """The extents of a plane without what is cut off; 0 for those that are free."""
    return [0 if plane.varies(axis) else plane.shape[axis] - cut for axis in SPATIAL]


def _resize(at: OnnxLayer, x: str, size: str, plane: Sequence[int]) -> None:
    """Resizes a plane to ``size``; ``plane`` are its extents as :func:`_fixed` gives them."""
    single = [extent == 1 for extent in plane]
    if any(single):
        # OpenCV 5.0 divides by extent - 1: along such an axis the value is repeated instead.
        one = at.integers("one", [1])
        ends = [
            at.node("Gather", size, at.integers("axis", [axis]), axis=0) if repeats else one
            for axis, repeats in enumerate(single)
        ]
        shape = at.node("Concat", one, one, *ends, axis=0)
        if all(single):
            at.write("Expand", x, shape)
            return
        x = at.node("Expand", x, shape)
    sizes = at.node("Concat", at.node("Shape", x, start=0, end=2), size, axis=0)
    at.write(
        "Resize",
        x,
        "",
        "",
        sizes,
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )


@writers.register("Upsample")
def upsample(at: OnnxLayer) -> None:
    """YOLOv3's, or SegNet's with a pooling mask."""
    if len(at.bottoms) > 1:
        _put_at_mask(at)
    else:
        nearest(at)


def _put_at_mask(at: OnnxLayer) -> None:
    """Zeros, but the values of the first bottom at the indices in the second."""
    at.need_fixed(at.bottom, SPATIAL)
    plane = at.top.shape[2] * at.top.shape[3]
    lines = at.integers("lines", [0, 0, -1])
    values = at.node("Reshape", at.x, lines)
    index = at.node("Cast", at.node("Reshape", at.bottoms[1].name, lines), to=INT64)
    batch = at.node("Shape", at.x, start=0, end=2)
    shape = at.node("Concat", batch, at.integers("plane", [plane]), axis=0)
    empty = at.node("Expand", at.constant("zero", 0), shape)
    filled = at.node("ScatterElements", empty, index, values, axis=2)
    at.write("Reshape", filled, at.integers("shape", [0, 0, *at.top.shape[2:]]))


@writers.register("FeatureExtrapolating")
def feature_extrapolating(at: OnnxLayer) -> None:
    """The maps of each scale times the shares of rows and columns, then in the layer's order."""
    at.need_fixed(at.bottom, [0])
    given, sources = at.layer.given, at.layer.sources
    images = at.bottom.shape[0] // given
    parts = []
    for scale, ratio in sources:
        index = at.integers("scale", [image * given + scale for image in range(images)])
        maps = at.node("Gather", at.x, index, axis=0)
        if ratio != 1:
            rows, columns = (_shares(at, axis, ratio) for axis in SPATIAL)
            turned = at.node("Transpose", columns, perm=[1, 0])
            maps = at.node("MatMul", at.node("MatMul", rows, maps), turned)
        parts.append(maps)
    by_scale = parts[0] if len(parts) == 1 else at.node("Concat", *parts, axis=0)
    order = np.arange(len(sources) * images).reshape(len(sources), images).T.reshape(-1)
    at.write("Gather", by_scale, at.integers("order", order.tolist()), axis=0)


def _shares(at: OnnxLayer, axis: int, ratio: float) -> str:
    """The share of each position of a map (columns) in each of the resized one (rows)."""
    one, zero = at.constant("one", 1), at.constant("zero", 0)
    place = at.node("Div", positions(at, at.bottom, axis, [-1, 1]), at.constant("ratio", ratio))
    distance = at.node("Abs", at.node("Sub", place, positions(at, at.bottom, axis)))
    share = at.node("Max", at.node("Sub", one, distance), zero)
    inside = at.node("Less", place, extent(at, at.bottom, axis))
    return at.node("Mul", share, at.node("Cast", inside, to=FLOAT))


@writers.register("UpsampleDarknet")
def nearest(at: OnnxLayer) -> None:
    """Each element of the last two axes becomes a block of equal elements."""
    factors = [1.0] * (len(at.bottom.shape) - 2) + [float(at.layer.scale)] * 2
    at.write(
        "Resize",
        at.x,
        "",
        at.constant("scales", factors),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
