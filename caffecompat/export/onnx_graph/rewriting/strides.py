"""1x1 convolutions with a stride, as convolutions without one behind a pooling that leaves out.

ONNX Runtime's kernels for matrix products take convolutions without a stride only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from caffecompat.export.onnx_graph.graph import Attribute, Node, OnnxGraph


def leave_out_first(graph: OnnxGraph) -> int:
    """Puts a pooling of single pixels before each 1x1 convolution with a stride.

    Convolutions of one bottom share it.

    Returns:
        The number of convolutions.
    """
    nodes: list[Node] = []
    pooled: dict[tuple[str, tuple[int, ...]], str] = {}
    done = 0
    for node in graph.nodes:
        if not _has_stride_only(node):
            nodes.append(node)
            continue
        strides: Any = node.attributes["strides"]
        key = (node.inputs[0], tuple(strides))
        if key not in pooled:
            pooled[key] = graph.new_value(f"{node.name}/pixels")
            settings: dict[str, Attribute] = {"kernel_shape": [1, 1], "strides": strides}
            name = f"{node.name}/pixels"
            nodes.append(Node("MaxPool", name, key[:1], (pooled[key],), settings))
        inputs = (pooled[key], *node.inputs[1:])
        nodes.append(
            replace(node, inputs=inputs, attributes={**node.attributes, "strides": [1, 1]})
        )
        done += 1
    graph.nodes = nodes
    return done


def _has_stride_only(node: Node) -> bool:
    """Whether a node is a 1x1 convolution with a stride and without groups and padding."""
    settings: Any = node.attributes
    return (
        node.operator == "Conv"
        and list(settings["kernel_shape"]) == [1, 1]
        and max(settings.get("strides", [1])) > 1
        and settings.get("group", 1) == 1
        and not any(settings.get("pads", []))
    )
