"""A net as it is drawn: its layers with their connections, shapes and counts."""

from __future__ import annotations

from dataclasses import dataclass

from caffecompat.layers import Shape


@dataclass(frozen=True)
class Blob:
    """A bottom or top of a layer.

    Attributes:
        name: without marks for versions.
        shape: None where it is unknown.
        makers: of a bottom, the positions of the layers that make it; empty if none does. In a
            drawing of all phases there may be several.
    """

    name: str
    shape: Shape | None
    makers: tuple[int, ...] = ()


@dataclass(frozen=True)
class DrawnParameter:
    """A parameter blob of a layer.

    Attributes:
        count: its values; 0 if another layer owns them.
        owner: the name of the layer whose parameter is used, empty for the layer's own.
    """

    name: str
    shape: Shape
    count: int
    owner: str = ""
    lr_mult: float = 1.0
    decay_mult: float = 1.0


@dataclass(frozen=True)
class DrawnLayer:
    """One layer.

    Attributes:
        kind: a key of :data:`caffecompat.draw.kinds.KINDS`.
        place: file and line of its definition, empty for a net in memory.
        geometry: kernel, stride, padding and outputs, such as ``3×3 pad 1, 64``; or empty.
        text: its definition as prototxt, without the values of embedded parameters.
        multiply_adds: for the whole batch.
        problem: why it cannot be built; empty where it can, or where only a bottom is unknown.
    """

    name: str
    type: str
    kind: str
    phase: str
    place: str
    geometry: str
    text: str
    bottoms: tuple[Blob, ...]
    tops: tuple[Blob, ...]
    parameters: tuple[DrawnParameter, ...] = ()
    multiply_adds: int = 0
    problem: str = ""

    @property
    def parameter_count(self) -> int:
        """The values of the parameters that the layer owns."""
        return sum(parameter.count for parameter in self.parameters)

    @property
    def in_place(self) -> bool:
        """Whether its only top replaces its only bottom."""
        return (
            len(self.bottoms) == len(self.tops) == 1 and self.bottoms[0].name == self.tops[0].name
        )


@dataclass(frozen=True)
class Diagram:
    """The layers of a net, in file order, which is an order of execution.

    Attributes:
        name: the net's own name, may be empty.
        source: the name of the file, without its folder.
        phase: ``"TRAIN"``, ``"TEST"`` or ``"ALL"``.
        batch: the first extent of the first input, or 1; multiply-adds are for this batch size.
        notes: sentences about the definition.
    """

    name: str
    source: str
    phase: str
    layers: tuple[DrawnLayer, ...]
    batch: int = 1
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.name or self.source

    @property
    def parameter_count(self) -> int:
        return sum(layer.parameter_count for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def problems(self) -> list[str]:
        """Why layers cannot be built, in file order."""
        return [layer.problem for layer in self.layers if layer.problem]
