"""Builds the layers of a net; top shapes come from the layers' forward passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from caffecompat.errors import CaffeError
from caffecompat.graph import Graph
from caffecompat.layers import BuildOptions, Shape
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.layer_checks import check_stated_shapes, layer_classes
from caffecompat.net.module import LayerModule
from caffecompat.net.setup.layer_builder import LayerBuilder, ShapelessLayer
from caffecompat.net.shapes.top_shapes import InferredShapes
from caffecompat.proto.schema import Message


def build_layers(graph: Graph, options: BuildOptions, definition: Message) -> list[BuiltLayer]:
    """Sets up every layer of ``graph``, in order.

    Args:
        definition: the whole NetParameter, including layers of other states.

    Raises:
        UnknownName, NetError: layer types do not exist; one error names all of them.
        LayerError: a layer refuses its definition or its bottoms.
    """
    classes = layer_classes(graph, options)
    check_stated_shapes(graph, classes, options)
    return _LayersWithModules(graph, options, definition).build_all(classes)


def build_each(
    graph: Graph, options: BuildOptions, definition: Message
) -> list[BuiltLayer | CaffeError | None]:
    """Sets up every layer that can be built, for descriptions of nets that cannot run.

    Sharing of parameters is not resolved.

    Args:
        graph: with or without its splits.
        options: with ``shapes_only``.
        definition: the whole NetParameter, including layers of other states.

    Returns:
        For each layer what was built, or the reason why it cannot be; None where the shape of a
        bottom is unknown.
    """
    builder = _LayersWithModules(graph, options, definition)
    try:
        return [builder.build_if_possible(node) for node in graph]
    finally:
        builder.close()


class _LayersWithModules(LayerBuilder):
    """A builder that runs the modules of layers on ``meta`` tensors for their top shapes."""

    def __init__(self, graph: Graph, options: BuildOptions, definition: Message) -> None:
        super().__init__(graph, options, definition)
        self.position = torch.zeros((), dtype=torch.int64)
        self._inferred = InferredShapes()

    def shapes_and_module(self, layer: ShapelessLayer) -> tuple[Sequence[Shape], LayerModule]:
        module = LayerModule(layer.layer)
        return self._inferred.infer(module, layer.node, layer.bottoms, layer.tops), module
