"""InnerProduct and Embed."""

from __future__ import annotations

from caffecompat.export.onnx_graph.graph import Value
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers
from caffecompat.export.onnx_graph.layers.recognition import normalized_rows

INT64 = 7


@writers.register("InnerProduct")
def inner_product(at: OnnxLayer) -> None:
    """Gemm of a matrix: axes before ``axis`` are rows, the others columns."""
    first = at.layer.first
    matrix = at.x
    if (first, len(at.bottom.shape)) != (1, 2):
        matrix = at.node("Flatten", at.x, axis=first)
    if at.layer.normalize:
        weight = at.constant("normalized weight", normalized_rows(at.arrays["weight"]))
    else:
        weight = at.parameter("weight")
    inputs = [matrix, weight, *([at.parameter("bias")] if "bias" in at.arrays else [])]
    transposed = 0 if at.layer.transpose else 1
    if first == 1:
        at.write("Gemm", *inputs, transB=transposed)
        return
    product = at.node("Gemm", *inputs, transB=transposed)
    rows = tuple((-1, shape[-1]) for shape in at.top.shapes)
    at.write("Reshape", product, at.integers("shape", at.shape_input(Value("", rows), at.top)))


@writers.register("Embed")
def embed(at: OnnxLayer) -> None:
    index = at.node("Cast", at.x, to=INT64)
    if "bias" not in at.arrays:
        at.write("Gather", at.parameter("weight"), index, axis=0)
        return
    rows = at.node("Gather", at.parameter("weight"), index, axis=0)
    at.write("Add", rows, at.parameter("bias"))


@writers.register("Parameter")
def parameter(at: OnnxLayer) -> None:
    at.write("Identity", at.parameter("value"))
