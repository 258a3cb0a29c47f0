"""The changes of a graph that make programs faster, for each program in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from caffecompat.export.onnx_graph.graph import OnnxGraph
from caffecompat.export.onnx_graph.rewriting.concatenation import avoid_concatenations
from caffecompat.export.onnx_graph.rewriting.lrn import write_out_lrn
from caffecompat.export.onnx_graph.rewriting.strides import leave_out_first
from caffecompat.layers import Shape

# Changes a graph whose values have known shapes, by name; says how often.
Change: TypeAlias = Callable[[OnnxGraph, Mapping[str, Shape]], int]
# By what it does, for the line about it.
Changes: TypeAlias = Mapping[str, Change]

FOR_OPENVINO: Changes = MappingProxyType(
    {"concatenations as sums": lambda graph, _: avoid_concatenations(graph)}
)
FOR_ONNX_RUNTIME: Changes = MappingProxyType(
    {
        "LRN as convolutions and square roots": write_out_lrn,
        **FOR_OPENVINO,
        "strides of 1x1 convolutions as poolings": lambda graph, _: leave_out_first(graph),
    }
)


def rewrite(graph: OnnxGraph, shapes: Mapping[str, Shape], changes: Changes) -> str:
    """Changes a graph.

    Args:
        shapes: of the graph's values, by name.
        changes: :data:`FOR_OPENVINO` or :data:`FOR_ONNX_RUNTIME`.

    Returns:
        The line about it; empty if nothing was changed.
    """
    counts = {what: change(graph, shapes) for what, change in changes.items()}
    done = [f"{what} ({count})" for what, count in counts.items() if count]
    return f"wrote with other operators: {', '.join(done)}" if done else ""
