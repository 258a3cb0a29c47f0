"""1x1 convolutions of a concatenation as sums of convolutions of its parts.

ONNX Runtime copies the parts of a concatenation in one thread, OpenVINO those of 16 bits number by
number; the sum is computed inside of the second convolution.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from caffecompat.export.onnx_graph.graph import Node, OnnxGraph

_PARTS = 2
# ONNX Runtime keeps blobs in blocks of so many channels, and copies other parts into that order.
_BLOCK = 8
# A convolution whose top is larger than this share of its bottom writes the sums, twice, in more
# time than the copy takes.
_LARGEST_TOP = 0.5


def avoid_concatenations(graph: OnnxGraph) -> int:
    """Removes concatenations along channels that only poolings and convolutions read.

    Returns:
        How many.
    """
    done = 0
    for node in list(graph.nodes):
        found = _found(graph, node)
        if found is not None:
            found.remove(graph)
            done += 1
    used = {name for node in graph.nodes for name in node.inputs}
    for name in set(graph.weights) - used:
        del graph.weights[name]
    return done


@dataclass(frozen=True)
class _Concatenation:
    """A Concat that 1x1 convolutions alone read, itself or behind a pooling.

    Attributes:
        node: the Concat.
        pooling: the pooling that alone reads it, if there is one.
        convolutions: what reads it, or the pooling.
        sizes: the channels of each part.
    """

    node: Node
    pooling: Node | None
    convolutions: list[Node]
    sizes: list[int]

    def remove(self, graph: OnnxGraph) -> None:
        nodes: list[Node] = []
        parts: list[str] = []
        for node in graph.nodes:
            if node is self.node:
                parts = list(node.inputs)
            elif node is self.pooling:
                pooled = [graph.new_value(f"{node.name}/part") for _ in parts]
                for i, (part, top) in enumerate(zip(parts, pooled, strict=True)):
                    name = f"{node.name}/part{i}"
                    nodes.append(replace(node, name=name, inputs=(part,), outputs=(top,)))
                parts = pooled
            elif any(node is one for one in self.convolutions):
                nodes += self._sum(graph, node, parts)
            else:
                nodes.append(node)
        graph.nodes = nodes

    def _sum(self, graph: OnnxGraph, node: Node, parts: list[str]) -> list[Node]:
        weight = graph.weights[node.inputs[1]]
        pieces = np.split(weight, np.cumsum(self.sizes)[:-1], axis=1)
        made, tops = [], []
        for i, (part, piece) in enumerate(zip(parts, pieces, strict=True)):
            name = graph.add_weight(f"{node.name}.weight part {i}", piece)
            bias = node.inputs[2:] if i == 0 else ()
            tops.append(graph.new_value(f"{node.name}/part"))
            inputs = (part, name, *bias)
            made.append(
                replace(node, name=f"{node.name}/part{i}", inputs=inputs, outputs=(tops[i],))
            )
        return [*made, Node("Add", f"{node.name}/sum", tuple(tops), node.outputs, {})]


def _found(graph: OnnxGraph, node: Node) -> _Concatenation | None:
    """The concatenation that a node is, if it can be removed and that saves time."""
    if node.operator != "Concat" or node.attributes.get("axis") != 1 or len(node.inputs) != _PARTS:
        return None
    makers = {name: one for one in graph.nodes for name in one.outputs}
    sizes = [_channels(graph, makers.get(name), makers) for name in node.inputs]
    readers = _readers(graph)
    value, pooling = node.outputs[0], None
    if len(readers[value]) == 1 and readers[value][0].operator == "MaxPool":
        pooling = readers[value][0]
        if len(pooling.outputs) > 1:  # what reads its mask needs the whole
            return None
        value = pooling.outputs[0]
    outputs = {one.name for one in graph.outputs}
    convolutions = readers[value]
    kept = outputs & {node.outputs[0], value}
    if kept or not convolutions or any(size == 0 or size % _BLOCK for size in sizes):
        return None
    if not all(_is_quick(graph, one, sum(sizes)) for one in convolutions):
        return None
    return _Concatenation(node, pooling, convolutions, sizes)


def _is_quick(graph: OnnxGraph, node: Node, channels: int) -> bool:
    """Whether a node is a 1x1 convolution with few enough channels in its top."""
    settings: Any = node.attributes
    if (
        node.operator != "Conv"
        or max(settings["kernel_shape"]) > 1
        or settings.get("group", 1) != 1
    ):
        return False
    weight = graph.weights.get(node.inputs[1])
    return weight is not None and len(weight) <= _LARGEST_TOP * channels


def _channels(graph: OnnxGraph, maker: Node | None, makers: dict[str, Node]) -> int:
    """The channels of what a node makes; 0 if that is not simply known."""
    if maker is not None and maker.operator == "Relu":
        maker = makers.get(maker.inputs[0])
    if maker is None or maker.operator != "Conv" or maker.inputs[1] not in graph.weights:
        return 0
    return len(graph.weights[maker.inputs[1]])


def _readers(graph: OnnxGraph) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.inputs:
            readers[name].append(node)
    return readers
