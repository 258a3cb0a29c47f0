"""Coordinates along the axes of values, constant or computed where the extent is free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffecompat.export.onnx_graph.graph import Value
from caffecompat.export.onnx_graph.layer import OnnxLayer

FLOAT = 1


def positions(at: OnnxLayer, value: Value, axis: int, shape: Sequence[int] = (-1,)) -> str:
    """0, 1 ... along an axis of ``value``, as float32 in ``shape``."""
    if not value.varies(axis):
        line = np.arange(value.shape[axis], dtype=np.float32)
        return at.constant("positions", line.reshape(tuple(shape)))
    end = at.node("Squeeze", at.node("Shape", value.name, start=axis, end=axis + 1))
    zero, one = (at.constant(str(number), number, np.int64) for number in (0, 1))
    line_of_any = at.node("Cast", at.node("Range", zero, end, one), to=FLOAT)
    return at.node("Reshape", line_of_any, at.integers("along", shape))


def extent(at: OnnxLayer, value: Value, axis: int) -> str:
    """The extent of an axis of ``value``, (1,) float32."""
    if not value.varies(axis):
        return at.constant("extent", [value.shape[axis]])
    return at.node("Cast", at.node("Shape", value.name, start=axis, end=axis + 1), to=FLOAT)


def part(at: OnnxLayer, x: str, axis: int, start: int, end: int) -> str:
    """The elements from ``start`` to before ``end`` of an axis."""
    bounds = [at.integers(what, [place]) for what, place in (("start", start), ("end", end))]
    return at.node("Slice", x, *bounds, at.integers("axis", [axis]))
