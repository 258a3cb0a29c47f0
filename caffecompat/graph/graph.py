"""The parts of a graph: blob versions, layer nodes, the graph itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple


class Version(NamedTuple):
    """One value of a blob name; an in-place layer creates the next version."""

    blob: str
    number: int = 0

    def __str__(self) -> str:
        return self.blob + "'" * self.number


@dataclass
class LayerNode:
    """A layer of the built net.

    Attributes:
        index: position in the order of execution, automatic splits included.
        message: the LayerParameter, not changed after the graph is built.
        phase: ``"TRAIN"`` or ``"TEST"``; the layer's own phase if its definition has one.
        place: its definition, e.g. ``"net.prototxt:41: layer 'conv1' (Convolution)"``.
        loss_weights: the explicit ones, one per top or none; those of tops that other layers read
            are moved to the split.
        automatic: whether it is a Split that is not in the definition.
        location: ``file:line`` of its definition; empty for a net in memory.
    """

    index: int
    name: str
    type: str
    message: Any
    phase: str
    place: str
    bottoms: tuple[Version, ...]
    tops: tuple[Version, ...]
    loss_weights: tuple[float, ...] = ()
    automatic: bool = False
    location: str = ""


@dataclass
class Graph:
    """The layers of one net in one state, in order of execution.

    Attributes:
        state: the NetState message that the rules were evaluated for.
        outputs: sorted names of blobs that no layer reads.
        notes: sentences for the user: layers left out by rules, lenient interpretations.
        path: the prototxt that the net was read from; None for a net in memory.
    """

    name: str
    state: Any
    layers: list[LayerNode]
    outputs: list[str]
    force_backward: bool = False
    notes: list[str] = field(default_factory=list)
    path: str | None = None

    @property
    def phase(self) -> str:
        """``"TRAIN"`` or ``"TEST"``."""
        return "TEST" if self.state.phase else "TRAIN"

    @cached_property
    def read(self) -> frozenset[Version]:
        """The versions that a layer reads."""
        return frozenset(bottom for node in self.layers for bottom in node.bottoms)

    def __iter__(self) -> Iterator[LayerNode]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)
