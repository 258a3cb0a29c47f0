"""Layers that resize planes."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.export.onnx_graph.graph import Value
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers

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
        _to_plane_of(at, x, at.bottoms[1])
    elif any(at.top.varies(axis) for axis in SPATIAL):
        # (h - 1) / shrink + 1, then h + (h - 1) (zoom - 1).
        shrink, zoom = layer.shrink or 1, layer.zoom or 1
        less = 0 if layer.whole and layer.shrink is None else 1
        extents = at.node("Shape", x, start=2)
        steps = [("Sub", less, 0), ("Div", shrink, 1), ("Mul", zoom, 1), ("Add", less, 0)]
        for operator, value, neutral in steps:
            if value != neutral:
                extents = at.node(operator, extents, at.integers(operator, [value]))
        _resize(at, x, extents)
    else:
        _resize_to(at, x, at.top.shape[2:])


@writers.register("BilinearInterpolation")
def bilinear_interpolation(at: OnnxLayer) -> None:
    _to_plane_of(at, at.x, at.bottoms[1])


def _to_plane_of(at: OnnxLayer, x: str, reference: Value) -> None:
    if any(reference.varies(axis) for axis in SPATIAL):
        _resize(at, x, at.node("Shape", reference.name, start=2, end=4))
    else:
        _resize_to(at, x, reference.shape[2:4])


def _resize_to(at: OnnxLayer, x: str, size: Sequence[int]) -> None:
    _resize(at, x, at.integers("size", size))


def _resize(at: OnnxLayer, x: str, size: str) -> None:
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
    """YOLOv3's; others take a mask."""
    if len(at.bottoms) > 1:
        at.refuse("an Upsample with a pooling mask is not written")
    nearest(at)


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
