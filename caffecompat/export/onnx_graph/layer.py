"""One layer to write as nodes of an ONNX graph, and the registry of the functions that do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.onnx_graph.graph import Attribute, OnnxGraph, Value
from caffecompat.registry import Registry


class FixedSizesNeeded(ExportError):
    """A layer can be written only for the input sizes of the definition."""


@dataclass(frozen=True)
class OnnxLayer:
    """A layer that is being written.

    Attributes:
        name: Caffe's name of the layer; its nodes have it.
        layer: the layer after ``setup``, which has its settings.
        bottoms, tops: the values that it reads and those that it must write.
        arrays: its parameters by name.
        weights: the initializers of parameters so far, by the address of their memory: layers that
            share a parameter share the initializer.
        graph: the graph that nodes are added to.
        program: the program that will read the file ("opencv5"), or "" for any.
    """

    name: str
    layer: Any
    bottoms: tuple[Value, ...]
    tops: tuple[Value, ...]
    arrays: Mapping[str, np.ndarray]
    weights: dict[tuple[int, tuple[int, ...]], str]
    graph: OnnxGraph
    program: str = ""

    @property
    def x(self) -> str:
        """The name of the first bottom."""
        return self.bottoms[0].name

    @property
    def bottom(self) -> Value:
        return self.bottoms[0]

    @property
    def top(self) -> Value:
        return self.tops[0]

    def node(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Adds a node with one new value; its name."""
        output = self.graph.new_value(f"{self.name}/{operator}")
        self._add(operator, inputs, (output,), f"{self.name}/{operator}", attributes)
        return output

    def write(self, operator: str, *inputs: str, top: int = 0, **attributes: Attribute) -> None:
        """Adds the node that makes a top."""
        self.write_all(operator, *inputs, tops=(self.tops[top],), **attributes)

    def write_all(
        self, operator: str, *inputs: str, tops: Sequence[Value], **attributes: Attribute
    ) -> None:
        """Adds the node that makes several tops."""
        self._add(operator, inputs, [top.name for top in tops], self.name, attributes)

    def node_with_two(self, operator: str, *inputs: str, **attributes: Attribute) -> list[str]:
        """Adds a node with two new values; their names."""
        outputs = [self.graph.new_value(f"{self.name}/{operator}") for _ in range(2)]
        self._add(operator, inputs, outputs, f"{self.name}/{operator}", attributes)
        return outputs

    def parameter(self, name: str, shape: Sequence[int] | None = None) -> str:
        """The initializer of a parameter, in another shape of as many values if one is given."""
        array = self.arrays[name]
        view = array if shape is None else array.reshape(tuple(shape))
        key = (view.ctypes.data, view.shape)
        if key not in self.weights:
            self.weights[key] = self.graph.add_weight(f"{self.name}.{name}", view)
        return self.weights[key]

    def constant(self, what: str, values: Any, dtype: Any = np.float32) -> str:
        """A new initializer with ``values``, named after the layer and ``what``."""
        return self.graph.add_weight(f"{self.name}/{what}", np.asarray(values, dtype))

    def integers(self, what: str, values: Sequence[int]) -> str:
        """A new initializer of 64-bit integers, for shapes, axes and indices."""
        return self.constant(what, list(values), np.int64)

    def refuse(self, why: str) -> NoReturn:
        raise ExportError(f"layer {self.name!r} ({self.layer.type}): {why}")

    def need_fixed(self, value: Value, axes: Sequence[int]) -> None:
        """Has the graph written for fixed input sizes if one of the axes depends on them.

        Raises:
            FixedSizesNeeded: one does.
        """
        if any(value.varies(axis) for axis in axes):
            raise FixedSizesNeeded(f"layer {self.name!r} ({self.layer.type}) needs fixed sizes")

    def reshaped(self, x: Value) -> str:
        """The value of the first bottom in the shape of ``x``, as the input of Reshape."""
        return self.integers("shape", self.shape_input(self.bottom, x))

    def shape_input(self, bottom: Value, top: Value) -> list[int]:
        """The second input of a Reshape from ``bottom`` to ``top``.

        Extents that depend on input sizes are copied (0), and one may be inferred (-1).

        Raises:
            FixedSizesNeeded: more than one would have to be inferred.
        """
        extents = []
        for axis, extent in enumerate(top.shape):
            if not top.varies(axis):
                extents.append(extent)
            elif axis < len(bottom.shape) and bottom.extents(axis) == top.extents(axis):
                extents.append(0)
            else:
                extents.append(-1)
        if extents.count(-1) > 1:
            self.need_fixed(top, range(len(top.shape)))
        return extents

    def _add(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        attributes: Mapping[str, Attribute],
    ) -> None:
        self.graph.add_node(operator, inputs, outputs, name, attributes, self.layer.type)


Writer: TypeAlias = Callable[[OnnxLayer], None]

writers: Registry[Writer] = Registry(
    "layer type that ONNX export knows", "caffecompat.export.onnx_graph.layers"
)
"""Functions that write a layer, by layer type; a new file needs no other change."""
