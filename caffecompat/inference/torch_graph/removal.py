"""Layers that return their bottom."""

from __future__ import annotations

import operator

from torch import fx

from caffecompat.export.value_names import is_same
from caffecompat.inference.torch_graph.graph import InferenceGraph
from caffecompat.layers.dropout import Dropout


def remove_identities(graph: InferenceGraph) -> str:
    """Removes Dropout (in phase TEST) and Split; returns the line about it."""
    removed = 0
    for node in graph.nodes:
        built = graph.built(node)
        if built is None or not is_same(built):
            continue
        layer = built.layer
        if isinstance(layer, Dropout) and (layer.drops or not layer.scale_train):
            continue
        bottom = node.args[0]
        assert isinstance(bottom, fx.Node)
        parts = [user for user in node.users if user.target is operator.getitem]
        for part in parts:
            graph.bypass(part, bottom)
        if node.users:
            graph.bypass(node, bottom)
        else:
            graph.graph.erase_node(node)
        removed += 1
    return f"removed {removed} layers that return their bottom" if removed else ""
