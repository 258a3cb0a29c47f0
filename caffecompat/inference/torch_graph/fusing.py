"""Activations and sums computed by the layer before them."""

from __future__ import annotations

from torch import fx

from caffecompat.inference.torch_graph.graph import InferenceGraph
from caffecompat.inference.torch_graph.weighted import Weighted, activation_of, is_convolution
from caffecompat.layers.eltwise import Eltwise


def fuse(graph: InferenceGraph) -> str:
    """Fuses sums, then activations; returns the line about it."""
    sums = sum(_fuse_sum(graph, node) for node in graph.nodes)
    activations = sum(_fuse_activation(graph, node) for node in graph.nodes)
    parts = [
        f"{count} {what}" for count, what in ((activations, "activations"), (sums, "sums")) if count
    ]
    return f"fused {' and '.join(parts)} with the layers before them" if parts else ""


def _fuse_activation(graph: InferenceGraph, node: fx.Node) -> bool:
    activation = activation_of(graph.layer(node))
    bottom = node.args[0] if node.args else None
    target = graph.weighted(bottom)
    if activation is None or target is None or target.activation is not None:
        return False
    if not isinstance(bottom, fx.Node) or len(bottom.users) > 1:
        return False
    target.activation = activation
    target.names.append(str(node.meta.get("layer")))
    graph.set_module(bottom, target)
    graph.bypass(node, bottom)
    return True


def _fuse_sum(graph: InferenceGraph, node: fx.Node) -> bool:
    """Makes a convolution add the other bottom of an Eltwise layer."""
    layer = graph.layer(node)
    if type(layer) is not Eltwise or layer.operation != "SUM":
        return False
    if layer.coefficients != (1.0, 1.0) or layer.one_sample or node.args[0] is node.args[1]:
        return False
    for own, other in (node.args, node.args[::-1]):
        target = graph.weighted(own)
        if not isinstance(own, fx.Node) or target is None or not _can_add(target, own):
            continue
        target.adds = True
        target.names.append(str(node.meta.get("layer")))
        # At the place of the sum, where both bottoms are known.
        graph.set_module(node, target)
        node.args = (own.args[0], other)
        graph.graph.erase_node(own)
        return True
    return False


def _can_add(target: Weighted, node: fx.Node) -> bool:
    return is_convolution(target.layer) and not target.changed and len(node.users) == 1
