"""Layers that move, cut, join or reduce."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from caffecompat.export.onnx_graph.layer import OnnxLayer, writers

FLOAT, INT64 = 1, 7


@writers.register("Concat")
def concat(at: OnnxLayer) -> None:
    if len(at.bottoms) == 1:
        at.write("Identity", at.x)
        return
    at.write("Concat", *(bottom.name for bottom in at.bottoms), axis=at.layer.along)


@writers.register("Slice")
def slice_(at: OnnxLayer) -> None:
    if len(at.tops) == 1:
        at.write("Identity", at.x)
        return
    along = at.layer.along
    at.need_fixed(at.bottom, [along])
    ends = np.cumsum([top.shape[along] for top in at.tops]).tolist()
    for index, (start, end) in enumerate(pairwise([0, *ends])):
        at.write(
            "Slice",
            at.x,
            at.integers("start", [start]),
            at.integers("end", [end]),
            at.integers("axis", [along]),
            top=index,
        )


@writers.register("Softmax")
def softmax(at: OnnxLayer) -> None:
    at.write("Softmax", at.x, axis=at.layer.along)


@writers.register("Flatten")
def flatten(at: OnnxLayer) -> None:
    if (at.layer.start, at.layer.end) == (1, len(at.bottom.shape)):
        at.write("Flatten", at.x, axis=1)
    else:
        at.write("Reshape", at.x, at.reshaped(at.top))


@writers.register("Reshape")
def reshape(at: OnnxLayer) -> None:
    if at.layer.block == 1:
        at.write("Reshape", at.x, at.reshaped(at.top))
    else:
        at.write("DepthToSpace", at.x, blocksize=at.layer.block, mode="CRD")


@writers.register("Crop")
def crop(at: OnnxLayer) -> None:
    crop_plane(at, at.layer.first, at.layer.offsets)


def crop_plane(at: OnnxLayer, first: int, offsets: Sequence[int]) -> None:
    """Slice of the axes from ``first`` on, to the extents of the second bottom.

    The bounds are constant, or computed if the extents vary.
    """
    reference = at.bottoms[1]
    axes = list(range(first, len(at.bottom.shape)))
    if any(reference.varies(axis) for axis in axes):
        extents = at.node("Shape", reference.name, start=axes[0])
        ends = at.node("Add", extents, at.integers("offset", offsets))
    else:
        ends = at.integers(
            "end", [o + reference.shape[axis] for o, axis in zip(offsets, axes, strict=True)]
        )
    at.write("Slice", at.x, at.integers("start", offsets), ends, at.integers("axes", axes))


@writers.register("MergeCrop")
def merge_crop(at: OnnxLayer) -> None:
    """The first bottom with the middle of the second."""
    layer, (a, b) = at.layer, at.bottoms
    axes = list(range(2, len(a.shape)))
    at.need_fixed(a, axes)
    at.need_fixed(b, axes)
    starts = [(b.shape[axis] - a.shape[axis]) // 2 for axis in axes]
    ends = [start + a.shape[axis] for start, axis in zip(starts, axes, strict=True)]
    middle = at.node(
        "Slice",
        b.name,
        at.integers("start", starts),
        at.integers("end", ends),
        at.integers("axes", axes),
    )
    parts = [
        x if passes else at.node("Mul", x, at.constant("zero", 0))
        for x, passes in zip((a.name, middle), layer.passes, strict=True)
    ]
    if layer.add:
        at.write("Add", *parts)
    else:
        at.write("Concat", *parts, axis=1)


@writers.register("Tile")
def tile(at: OnnxLayer) -> None:
    times = [1] * len(at.bottom.shape)
    times[at.layer.along] = at.layer.tiles
    at.write("Tile", at.x, at.integers("repeats", times))


@writers.register("Reduction")
def reduction(at: OnnxLayer) -> None:
    operator = {
        "SUM": "ReduceSum",
        "ASUM": "ReduceL1",
        "SUMSQ": "ReduceSumSquare",
        "MEAN": "ReduceMean",
    }[at.layer.operation]
    axes = at.integers("axes", range(at.layer.first, len(at.bottom.shape)))
    if at.layer.coeff == 1:
        at.write(operator, at.x, axes, keepdims=0)
        return
    reduced = at.node(operator, at.x, axes, keepdims=0)
    at.write("Mul", reduced, at.constant("coeff", at.layer.coeff))


@writers.register("ArgMax")
def arg_max(at: OnnxLayer) -> None:
    """TopK of the flipped bottom, since the larger index wins among equal values in Caffe."""
    layer = at.layer
    x, axis = at.x, layer.along
    extent = int(np.prod(at.bottom.shape[1:])) if axis is None else at.bottom.shape[axis]
    if axis is None:
        at.need_fixed(at.bottom, range(1, len(at.bottom.shape)))
        x, along = at.node("Flatten", x, axis=1), 1
    else:
        at.need_fixed(at.bottom, [axis])
        along = axis
    flipped = at.node(
        "Slice",
        x,
        at.integers("start", [-1]),
        at.integers("end", [-extent - 1]),
        at.integers("axis", [along]),
        at.integers("step", [-1]),
    )
    values, index = at.node_with_two("TopK", flipped, at.integers("k", [layer.top_k]), axis=along)
    if axis is not None and layer.values:
        at.write("Identity", values)
        return
    last = at.constant("last", extent - 1)
    found = at.node("Sub", last, at.node("Cast", index, to=FLOAT))
    if axis is not None:
        at.write("Identity", found)
        return
    if layer.values:
        found = at.node("Concat", found, values, axis=1)
    at.write("Reshape", found, at.reshaped(at.top))


@writers.register("BatchReindex")
def batch_reindex(at: OnnxLayer) -> None:
    at.write("Gather", at.x, at.node("Cast", at.bottoms[1].name, to=INT64), axis=0)
