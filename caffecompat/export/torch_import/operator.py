"""One operator of a traced program, as the functions see it that turn it into layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.torch_import.layers import Layers
from caffecompat.registry import Registry

Shape = tuple[int, ...]


class Unsupported(ExportError):
    """An operator, or one of its settings, that no layer of Caffe has; says why."""


@dataclass(frozen=True)
class Call:
    """A call of an operator.

    Attributes:
        layers: receives the layers.
        node: the node of the program.
        arguments: by their names in the operator's schema, defaults included.
        blobs: the blob names of all values so far, by node.
        constants: parameters, buffers and constants, by node, with their names in the module.
        name: the name for the layer: the path of the module that calls the operator.
        batch: the number of items of the example.
        axes: for each value so far the axis of the items, which may hold several of each.
    """

    layers: Layers
    node: Any
    arguments: dict[str, Any]
    blobs: dict[Any, str]
    constants: dict[Any, tuple[str, Any]]
    name: str
    batch: int = 1
    axes: dict[Any, int] = field(default_factory=dict)

    def refuse(self, reason: str) -> NoReturn:
        raise Unsupported(reason)

    def check(self, condition: bool, reason: str) -> None:
        if not condition:
            self.refuse(reason)

    @property
    def shape(self) -> Shape:
        """The shape of the result."""
        return shape_of(self.node)

    def bottom(self, name: str) -> str:
        """The blob of an argument that is computed from the inputs."""
        return self.blob(self.arguments[name])

    def blob(self, value: Any) -> str:
        if value not in self.blobs:
            self.refuse("it computes with a parameter where Caffe needs a blob")
        return self.blobs[value]

    def bottom_shape(self, name: str) -> Shape:
        return shape_of(self.arguments[name])

    def axis_of_items(self, value: Any) -> int:
        """The axis along which the items of the batch lie in a value."""
        return self.axes.get(value, 0)

    def moved(self, axis: int) -> int:
        """The axis of the items in the result: as traces tell, else this one."""
        return self.axes.setdefault(self.node, axis)

    def reshaped(self, bottom: str, shape: Sequence[int], items: int, end: str = "") -> str:
        """The blob in another shape, whose extent along axis ``items`` follows from the others."""
        message = self.add("Reshape", [bottom], end=end)
        dims = [*shape]
        dims[items] = -1
        message.reshape_param.shape.dim.extend(dims)
        return str(message.name)

    def values(self, name: str) -> np.ndarray | None:
        """The values of an argument that is a parameter; None if it is not given."""
        node = self.arguments[name]
        if node is None:
            return None
        if node not in self.constants:
            self.refuse(f"its {name} is computed from the inputs, where Caffe needs a parameter")
        tensor = self.constants[node][1]
        return np.ascontiguousarray(tensor.detach().cpu().float().numpy())

    def parameter_name(self, name: str) -> str:
        """The name of a parameter in the module."""
        return self.constants[self.arguments[name]][0]

    def is_constant(self, value: Any) -> bool:
        return value in self.constants

    def add(
        self,
        kind: str,
        bottoms: Sequence[str],
        *blobs: np.ndarray,
        end: str = "",
        parameters: Sequence[str] = (),
        tops: int = 1,
    ) -> Any:
        """Adds a layer; its top has its name, several tops have numbers behind it.

        Args:
            kind: Caffe's type.
            bottoms: blob names.
            blobs: the layer's parameters.
            end: what is added to the name, where an operator becomes several layers.
            parameters: names of the parameters in the module, which find shared ones.
            tops: how many tops it has.

        Returns:
            The LayerParameter, to set fields of.
        """
        return self.layers.add(kind, self.name + end, bottoms, blobs, parameters, tops)

    def pair(self, name: str) -> tuple[int, int]:
        """An argument with a value for height and one for width, or one for both."""
        value = self.arguments[name]
        numbers = [value] if isinstance(value, int) else list(value)
        self.check(len(numbers) in (1, 2), f"its {name} {numbers} is not for two axes")
        return int(numbers[0]), int(numbers[-1])


def shape_of(node: Any) -> Shape:
    """The shape of a node's tensor; of a dynamic extent that of the example."""
    value = node.meta.get("val")
    return tuple(_extent(extent) for extent in getattr(value, "shape", ()))


def _extent(extent: Any) -> int:
    if isinstance(extent, int):
        return extent
    hint = extent.node.hint
    return int(hint) if hint is not None else 1


operators: Registry[Callable[[Call], str | tuple[str, ...]]] = Registry(
    "torch operator", "caffecompat.export.torch_import.operators"
)
"""Functions by operator ("aten.conv2d"): add layers for a call and return the result's blob, or
those of an operator with several results."""
