"""ONNX nodes, weights and values while a graph is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from caffecompat.export.free_names import free_name
from caffecompat.layers import Shape

Attribute: TypeAlias = int | float | str | Sequence[int] | Sequence[float]


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: its name in the graph.
        shapes: its shape with the definition's input sizes, followed by its shapes with other
            sizes, for inputs that may have them.
    """

    name: str
    shapes: tuple[Shape, ...]

    @property
    def shape(self) -> Shape:
        return self.shapes[0]

    def extents(self, axis: int) -> tuple[int, ...]:
        """The extents of one axis for the input sizes of :attr:`shapes`."""
        return tuple(shape[axis] for shape in self.shapes)

    def varies(self, axis: int) -> bool:
        """Whether the extent of an axis depends on the sizes of the inputs."""
        return len(set(self.extents(axis))) > 1


@dataclass(frozen=True)
class Node:
    """One ONNX operator.

    Attributes:
        inputs: names of values; "" for an optional input that is left out.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    description: str = ""


@dataclass
class OnnxGraph:
    """The nodes and weights written so far.

    Attributes:
        name: the net's name.
        inputs, outputs: values of the graph.
        weights: arrays by the name of their initializer.
        layers: names and types of the layers, in order.
    """

    name: str
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    layers: list[tuple[str, str]] = field(default_factory=list)
    _values: set[str] = field(default_factory=set)
    _nodes: set[str] = field(default_factory=set)

    def new_value(self, wanted: str) -> str:
        """``wanted``, or a name like it that no value has yet."""
        return _new_name(wanted, self._values)

    def add_weight(self, wanted: str, array: np.ndarray) -> str:
        """Adds an initializer; its name."""
        name = self.new_value(wanted)
        self.weights[name] = array
        return name

    def add_node(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        attributes: Mapping[str, Attribute],
        description: str = "",
    ) -> None:
        """Adds a node, with ``name`` or a name like it that no node has yet."""
        name = _new_name(name, self._nodes)
        node = Node(operator, name, tuple(inputs), tuple(outputs), attributes, description)
        self.nodes.append(node)


def _new_name(wanted: str, taken: set[str]) -> str:
    name = free_name(wanted, taken, first=1)
    taken.add(name)
    return name
