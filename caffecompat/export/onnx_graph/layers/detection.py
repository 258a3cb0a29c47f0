"""Layers of SSD's nets up to their predictions."""

from __future__ import annotations

import torch

from caffecompat.export.onnx_graph.layer import OnnxLayer, writers


@writers.register("Permute")
def permute(at: OnnxLayer) -> None:
    at.write("Transpose", at.x, perm=at.layer.order)


@writers.register("PriorBox")
@writers.register("PriorBoxClustered")
def prior_box(at: OnnxLayer) -> None:
    """A constant, which depends on the sizes of the feature map and the image."""
    for bottom in at.bottoms:
        at.need_fixed(bottom, [2, 3])
    planes = [torch.zeros(1, 1, *bottom.shape[2:]) for bottom in at.bottoms]
    at.write("Identity", at.constant("boxes", at.layer.forward(*planes).numpy()))


@writers.register("Normalize")
def normalize(at: OnnxLayer) -> None:
    """Both definitions: SSD's, and NormFace's without parameters."""
    layer, axes = at.layer, len(at.bottom.shape)
    if "scale" not in at.arrays:
        _normalize_features(at)
        return
    along = list(range(1, axes)) if layer.across_spatial else [1]
    squares = at.node("ReduceSumSquare", at.x, at.integers("axes", along), keepdims=1)
    norm = at.node("Sqrt", at.node("Add", squares, at.constant("eps", layer.eps)))
    channels = at.arrays["scale"].size
    scale = at.parameter("scale", (channels, *[1] * (axes - 2)) if channels > 1 else (1,))
    at.write("Mul", at.node("Div", at.x, norm), scale)


def _normalize_features(at: OnnxLayer) -> None:
    x = at.x
    if len(at.bottom.shape) < 4:
        x = at.node("Reshape", x, at.reshaped(at.top))
    reduce = "ReduceSumSquare" if at.layer.squares else "ReduceL1"
    sums = at.node(reduce, x, at.integers("axes", [1]), keepdims=1)
    norm = at.node("Add", sums, at.constant("eps", 1e-6))
    if at.layer.squares:
        norm = at.node("Sqrt", norm)
    at.write("Div", x, norm)
    if len(at.tops) > 1:
        at.write("Identity", norm, top=1)
