"""Layers of nets that recognise faces and characters: normalised weights, orientations."""

from __future__ import annotations

import numpy as np

from caffecompat.export.onnx_graph.layer import OnnxLayer, writers
from caffecompat.export.onnx_graph.layers.convolution import write_convolution

EPSILON = 1e-6


def normalized_rows(weight: np.ndarray) -> np.ndarray:
    """The rows divided by their norms, as NormFace's layers do it in each pass."""
    norm = np.sqrt((weight * weight).sum(1, keepdims=True) + np.float32(EPSILON))
    return (weight / norm).astype(np.float32)


@writers.register("InnerDistance")
def inner_distance(at: OnnxLayer) -> None:
    """The sum over x and a centre, both with an axis of their own for the other's rows."""
    layer = at.layer
    if layer.given:
        centers = at.node("Flatten", at.bottoms[1].name, axis=1)
    elif layer.normalize:
        centers = at.constant("normalized weight", normalized_rows(at.arrays["weight"]))
    else:
        centers = at.parameter("weight")
    rows = at.node("Unsqueeze", at.node("Flatten", at.x, axis=layer.first), _axis(at, 1))
    difference = at.node("Sub", rows, at.node("Unsqueeze", centers, _axis(at, 0)))
    reduce = "ReduceL1" if layer.absolute else "ReduceSumSquare"
    if layer.first == 1:
        at.write(reduce, difference, _axis(at, 2), keepdims=0)
        return
    distances = at.node(reduce, difference, _axis(at, 2), keepdims=0)
    at.need_fixed(at.bottom, range(layer.first))
    at.write("Reshape", distances, at.integers("shape", at.top.shape))


def _axis(at: OnnxLayer, axis: int) -> str:
    return at.integers("axis", [axis])


@writers.register("LabelSpecificAdd")
def label_specific_add(at: OnnxLayer) -> None:
    """The scores as they are, since the margin is for training."""
    if len(at.tops) > 1:
        at.refuse("its second top, the margin, changes from one pass to the next")
    at.write("Identity", at.x)


@writers.register("Extend")
def extend(at: OnnxLayer) -> None:
    channels = np.arange(at.bottom.shape[1]).repeat(at.layer.count)
    at.write("Gather", at.x, at.integers("channels", channels.tolist()), axis=1)


@writers.register("ORN Convolution")
def oriented_convolution(at: OnnxLayer) -> None:
    """A convolution with all rotated kernels."""
    import torch

    rotated = at.layer.rotated(torch.from_numpy(at.arrays["weight"])).numpy()
    write_convolution(at, at.constant("rotated weight", rotated))


@writers.register("ORPooling")
def orientation_pooling(at: OnnxLayer) -> None:
    count = at.layer.count
    grouped = at.node(
        "Reshape",
        at.node("Transpose", at.x, perm=[0, 2, 3, 1]),
        at.integers("orientations", [0, 0, 0, at.bottom.shape[1] // count, count]),
    )
    greatest = at.node("ReduceMax", grouped, _axis(at, -1), keepdims=0)
    at.write("Transpose", greatest, perm=[0, 3, 1, 2])
