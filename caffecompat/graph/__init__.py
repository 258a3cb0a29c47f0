"""The :class:`Graph` of a NetParameter in a NetState: its layers and their connections.

This package does not depend on what a layer type computes; see ``layers/`` and ``net/``.
"""

from caffecompat.graph.build import Wiring, build_graph, wire_layers
from caffecompat.graph.graph import Graph, LayerNode, Version
from caffecompat.graph.sharing import ParameterUse, resolve_sharing
from caffecompat.graph.state import (
    TEST,
    TRAIN,
    describe_state,
    merge_state,
    net_state,
    rule_holds,
)

__all__ = [
    "TEST",
    "TRAIN",
    "Graph",
    "LayerNode",
    "ParameterUse",
    "Version",
    "Wiring",
    "build_graph",
    "describe_state",
    "merge_state",
    "net_state",
    "resolve_sharing",
    "rule_holds",
    "wire_layers",
]
