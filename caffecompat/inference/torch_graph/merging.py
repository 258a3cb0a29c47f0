"""1x1 convolutions of one bottom as one, as the modules of GoogLeNet have them."""

from __future__ import annotations

import torch
from torch import fx

from caffecompat.inference.torch_graph.graph import InferenceGraph
from caffecompat.inference.torch_graph.weighted import Weighted, is_convolution
from caffecompat.layers._base import CHANNEL_AXIS
from caffecompat.layers.convolution import Convolution


def merge(graph: InferenceGraph) -> str:
    """Merges what can be merged; returns the line about it."""
    groups: dict[tuple[object, ...], list[fx.Node]] = {}
    for node in graph.nodes:
        weighted = graph.weighted(node)
        if weighted is not None and _can_merge(weighted):
            assert isinstance(weighted.layer, Convolution)
            activation = weighted.activation
            kind = (activation.name, activation.settings) if activation else None
            key = (node.args[0], weighted.layer.geometry.stride, kind, weighted.bias is None)
            groups.setdefault(key, []).append(node)
    merged = [nodes for nodes in groups.values() if len(nodes) > 1]
    for nodes in merged:
        _merge(graph, nodes)
    if not merged:
        return ""
    return f"merged {sum(map(len, merged))} convolutions of 1x1 into {len(merged)}"


def _can_merge(weighted: Weighted) -> bool:
    layer = weighted.layer
    if not isinstance(layer, Convolution) or not is_convolution(layer) or weighted.adds:
        return False
    g = layer.geometry
    if g.channel_axis != CHANNEL_AXIS or g.kernel != (1, 1) or layer.group > 1:
        return False
    return g.pad == (0, 0) and g.sides is None


def _merge(graph: InferenceGraph, nodes: list[fx.Node]) -> None:
    """Makes the first of the nodes compute all of them."""
    parts = [graph.weighted(node) for node in nodes]
    kept = [part for part in parts if part is not None]
    whole = Weighted(kept[0].built)
    biases = [part.bias for part in kept if part.bias is not None]
    whole.set_values(
        torch.cat([part.weight for part in kept]), torch.cat(biases) if biases else None
    )
    whole.activation = kept[0].activation
    whole.names = [name for part in kept for name in part.names]
    first = nodes[0]
    with graph.graph.inserting_before(first):
        node = graph.graph.call_module(graph.add(whole), first.args)
    node.meta = {"layer": first.meta.get("layer"), "outputs": len(whole.weight)}
    start = 0
    for old, part in zip(nodes, kept, strict=True):
        count = len(part.weight)
        with graph.graph.inserting_before(old):
            piece = graph.graph.call_method("narrow", (node, CHANNEL_AXIS, start, count))
        graph.bypass(old, piece)
        start += count
