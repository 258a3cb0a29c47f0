"""LRN across channels as a convolution and square roots.

ONNX Runtime's own LRN takes a power of each number, one after the other in one thread: a third of
the time of GoogLeNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from caffecompat.export.onnx_graph.graph import Attribute, Node, OnnxGraph
from caffecompat.layers import Shape

# With more channels their sums take longer than the powers.
_MOST_CHANNELS = 512


def write_out_lrn(graph: OnnxGraph, shapes: Mapping[str, Shape]) -> int:
    """Replaces the LRN nodes of a graph.

    Args:
        shapes: of the graph's values, by name; a node whose bottom is not among them stays.

    Returns:
        How many were replaced.
    """
    nodes = [
        _Operators(graph, node, shapes[node.inputs[0]][1]).nodes
        if node.operator == "LRN" and _fits(shapes.get(node.inputs[0]))
        else [node]
        for node in graph.nodes
    ]
    graph.nodes = list(chain(*nodes))
    return sum(len(each) > 1 for each in nodes)


def _fits(shape: Shape | None) -> bool:
    return shape is not None and len(shape) == 4 and shape[1] <= _MOST_CHANNELS


class _Operators:
    """y = x base^-beta; base = k + alpha mean(x^2), over ``size`` channels; alpha is above 0.

    The base is a 1x1 convolution of the squares, whose weight is a band around the diagonal.
    """

    def __init__(self, graph: OnnxGraph, node: Node, channels: int) -> None:
        self.nodes: list[Node] = []
        self._graph, self._name = graph, node.name
        settings: Mapping[str, Any] = node.attributes
        (x,) = node.inputs
        band = _band(channels, settings["size"]) * (settings["alpha"] / settings["size"])
        base = self._add(
            "Conv",
            self._add("Mul", x, x),
            self._constant("band", band[:, :, None, None]),
            self._constant("k", np.full(channels, settings["bias"])),
            kernel_shape=[1, 1],
        )
        if settings["beta"] == 0.75:
            # By square roots, which take a tenth of the time of a power.
            root = self._add("Sqrt", base)
            power = self._add("Mul", root, self._add("Sqrt", root))
        else:
            power = self._add("Pow", base, self._constant("beta", np.array(settings["beta"])))
        self._add("Div", x, power, top=node.outputs[0])

    def _add(self, operator: str, *inputs: str, top: str = "", **attributes: Attribute) -> str:
        name = f"{self._name}/{operator}{len(self.nodes)}"
        top = top or self._graph.new_value(name)
        self.nodes.append(Node(operator, name, inputs, (top,), attributes))
        return top

    def _constant(self, name: str, value: np.ndarray) -> str:
        return self._graph.add_weight(f"{self._name}.{name}", value.astype(np.float32))


def _band(channels: int, size: int) -> np.ndarray:
    """1 for pairs of channels less than half of ``size`` apart, else 0."""
    apart = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    return (2 * apart < size).astype(np.float64)
