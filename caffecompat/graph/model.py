"""What a graph consists of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True, order=True)
class Version:
    """One value that a blob name stands for; an in-place layer makes the next version."""

    blob: str
    number: int = 0

    def __str__(self) -> str:
        return self.blob + "'" * self.number


@dataclass
class LayerNode:
    """A layer of the built net.

    Attributes:
        index: position in the order of execution, automatic splits included.
        message: the LayerParameter, never changed after the graph is built.
        phase: ``"TRAIN"`` or ``"TEST"``; the layer's own where its definition has one.
        place: where it is defined, e.g. ``"net.prototxt:41: layer 'conv1' (Convolution)"``.
        loss_weights: explicit ones, one per top or none; a split takes over those of tops that
            other layers read.
        automatic: a Split that the definition does not contain.
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


@dataclass
class Graph:
    """The layers of one net in one state, in order of execution.

    Attributes:
        state: the NetState message that the rules were held against.
        outputs: blob names that no layer reads, sorted.
        notes: what a user may want to know: layers left out by rules, generous readings.
    """

    name: str
    state: Any
    layers: list[LayerNode]
    outputs: list[str]
    force_backward: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def phase(self) -> str:
        return "TEST" if self.state.phase else "TRAIN"

    @cached_property
    def read(self) -> frozenset[Version]:
        """The versions that a layer reads."""
        return frozenset(bottom for node in self.layers for bottom in node.bottoms)

    def __iter__(self) -> Iterator[LayerNode]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)
