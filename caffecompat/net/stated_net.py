"""A net whose layer types state the shapes of their tops: described without torch."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.errors import CaffeError
from caffecompat.graph import Graph
from caffecompat.layers import BuildOptions, Layer, Shape, Source
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.definition import Definition, graph_of
from caffecompat.net.layer_checks import check_fillers, check_stated_shapes, layer_classes
from caffecompat.net.setup.layer_builder import LayerBuilder, ShapelessLayer
from caffecompat.net.structure import NetStructure


class StatedNet(NetStructure):
    """What a :class:`caffecompat.Net` with ``shapes_only`` tells about itself.

    Args:
        layers: the layers after their setup, without modules.
        notes: the notes that the Net would have.
    """

    def __init__(self, graph: Graph, layers: list[BuiltLayer], notes: list[str]) -> None:
        self.graph = graph
        self.layers = layers
        self.notes = notes


def stated_net(definition: Definition, phase: str, options: BuildOptions) -> StatedNet | None:
    """The net with the shapes that its layers state, or None if a Net has to be built.

    A Net is needed where a layer states no shapes, and where the definition is refused: the error
    of the Net is the one to show.

    Args:
        options: with ``shapes_only``.
    """
    try:
        graph = graph_of(definition, phase, options)
        options = definition.complete(options)
        classes = layer_classes(graph, options)
        if not all(_may_state(layer_class) for layer_class in classes):
            return None
        check_stated_shapes(graph, classes, options)
        layers = _StatedLayers(graph, options, definition.message).build_all(classes)
        check_fillers(layers)
    except CaffeError:
        return None
    return StatedNet(graph, layers, definition.notes + graph.notes)


def _may_state(layer_class: type[Layer] | None) -> bool:
    if layer_class is None:
        return True
    if layer_class.imports_code:
        return False
    return issubclass(layer_class, Source) or layer_class.states_top_shapes()


class _Unknown(CaffeError):
    """A layer does not state the shapes of its tops."""


class _StatedLayers(LayerBuilder):
    """A builder that asks layers for their top shapes and makes no modules."""

    def shapes_and_module(self, layer: ShapelessLayer) -> tuple[Sequence[Shape], None]:
        # Whether torch accepts an extent of 0 depends on the operator.
        if any(extent < 1 for bottom in layer.bottoms for extent in bottom):
            raise _Unknown
        stated = layer.layer.top_shapes(layer.bottoms)
        if stated is None or len(stated) < layer.tops:
            raise _Unknown
        return stated[: layer.tops], None
