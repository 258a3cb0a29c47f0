"""All changes, in their order."""

from __future__ import annotations

from collections.abc import Mapping

from caffecompat.export.onnx_graph.graph import OnnxGraph
from caffecompat.export.onnx_graph.rewriting.concatenation import avoid_concatenations
from caffecompat.export.onnx_graph.rewriting.lrn import write_out_lrn
from caffecompat.export.onnx_graph.rewriting.strides import leave_out_first
from caffecompat.layers import Shape


def rewrite(graph: OnnxGraph, shapes: Mapping[str, Shape]) -> str:
    """Changes a graph for ONNX Runtime.

    Args:
        shapes: of the graph's values, by name.

    Returns:
        The line about it; empty if nothing was changed.
    """
    counts = {
        "LRN as convolutions and square roots": write_out_lrn(graph, shapes),
        "concatenations as sums": avoid_concatenations(graph),
        "strides of 1x1 convolutions as poolings": leave_out_first(graph),
    }
    done = [f"{what} ({count})" for what, count in counts.items() if count]
    return f"wrote for ONNX Runtime: {', '.join(done)}" if done else ""
