"""A net whose layer types state the shapes of their tops: described without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from caffecompat.errors import CaffeError
from caffecompat.graph import Graph, LayerNode, Version
from caffecompat.layers import BuildOptions, Layer, Shape, Source
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.definition import Definition, graph_of
from caffecompat.net.layer_builder import LayerBuilder
from caffecompat.net.layer_checks import check_fillers, check_stated_shapes, layer_classes

if TYPE_CHECKING:
    from caffecompat.net.module import LayerModule


@dataclass(frozen=True)
class StatedNet:
    """What a :class:`caffecompat.Net` with ``shapes_only`` tells about itself.

    Attributes:
        layers: the layers after their setup, without modules.
        notes: the notes that the Net would have.
    """

    graph: Graph
    layers: list[BuiltLayer]
    notes: list[str]

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def phase(self) -> str:
        """``"TRAIN"`` or ``"TEST"``."""
        return self.graph.phase

    @property
    def inputs(self) -> list[str]:
        """Names of the tops of Input layers."""
        sources = [b for b in self.layers if b.source is not None and b.source.is_input]
        return [top.blob for built in sources for top in built.tops]

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads, sorted."""
        return list(self.graph.outputs)

    def shape_of(self, version: Version) -> Shape:
        """The shape of a blob version."""
        return self._shapes[version]

    @cached_property
    def _shapes(self) -> dict[Version, Shape]:
        pairs = (zip(built.tops, built.shapes, strict=True) for built in self.layers)
        return {top: shape for layer in pairs for top, shape in layer}


def stated_net(definition: Definition, phase: str, options: BuildOptions) -> StatedNet | None:
    """The net with the shapes that its layers state, or None if a Net has to be built.

    That is so where a layer states no shapes, and where the definition is refused: the Net's error
    is the one to show.

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
        layers = _Builder(graph, options, definition.message).build_all(classes)
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


class _Builder(LayerBuilder):
    """A builder that asks layers for their top shapes."""

    def top_shapes(
        self,
        layer: Layer,
        module: LayerModule | None,
        node: LayerNode,
        bottoms: list[Shape],
        tops: int,
    ) -> Sequence[Shape]:
        # Whether torch accepts an extent of 0 depends on the operator.
        if any(extent < 1 for bottom in bottoms for extent in bottom):
            raise _Unknown
        stated = layer.top_shapes(bottoms)
        if stated is None or len(stated) < tops:
            raise _Unknown
        return stated[:tops]
