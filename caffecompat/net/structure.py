"""The structure of a net: its name, phase, inputs, outputs and shapes. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from caffecompat.graph import Graph, Version
from caffecompat.layers import Shape
from caffecompat.net.built_layer import BuiltLayer


class NetStructure:
    """What is known of a net before it runs; the base of every class of nets.

    Attributes:
        graph: the net's graph.
        layers: the layers after their setup, in the order of the graph.
        notes: sentences on the definition for the user.
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
        return input_names(self.layers)

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads, sorted."""
        return list(self.graph.outputs)

    def shape_of(self, version: Version) -> Shape:
        """The shape of a blob version with the definition's input sizes."""
        return self._shapes[version]

    @cached_property
    def _shapes(self) -> dict[Version, Shape]:
        pairs = (zip(built.tops, built.shapes, strict=True) for built in self.layers)
        return {top: shape for layer in pairs for top, shape in layer}


def input_names(layers: Sequence[BuiltLayer]) -> list[str]:
    """Names of the tops of Input layers."""
    inputs = [b for b in layers if b.source is not None and b.source.is_input]
    return [top.blob for built in inputs for top in built.tops]
