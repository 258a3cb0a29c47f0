"""Boxes of a drawing: a layer and the layers that work in place on its top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffecompat.draw.diagram import DrawnLayer


@dataclass(frozen=True)
class Edge:
    """An arrow from one box to another.

    Attributes:
        blob: the name of the blob.
        shape: as text, empty if unknown.
    """

    start: int
    end: int
    blob: str
    shape: str


@dataclass(frozen=True)
class Boxes:
    """The boxes of a diagram.

    Attributes:
        members: for each box the positions of its layers, the first one on top.
        edges: between boxes, each pair and blob once.
    """

    members: tuple[tuple[int, ...], ...]
    edges: tuple[Edge, ...]


def boxes_of(layers: Sequence[DrawnLayer]) -> Boxes:
    """Puts layers that work in place below the layer whose top they change.

    A layer stays in a box of its own if other layers read the value from before it.
    """
    readers = _reader_counts(layers)
    box_of: dict[int, int] = {}
    members: list[list[int]] = []
    for position, layer in enumerate(layers):
        makers = layer.bottoms[0].makers if layer.in_place else ()
        maker = makers[0] if len(makers) == 1 else None
        is_alone = maker is None or len(layers[maker].tops) != 1 or readers[maker] != 1
        if maker is None or is_alone or members[box_of[maker]][-1] != maker:
            box_of[position] = len(members)
            members.append([position])
        else:
            box_of[position] = box_of[maker]
            members[box_of[maker]].append(position)
    return Boxes(tuple(map(tuple, members)), _edges(layers, box_of))


def _reader_counts(layers: Sequence[DrawnLayer]) -> list[int]:
    """How many bottoms each layer makes."""
    counts = [0] * len(layers)
    for layer in layers:
        for bottom in layer.bottoms:
            for maker in bottom.makers:
                counts[maker] += 1
    return counts


def _edges(layers: Sequence[DrawnLayer], box_of: dict[int, int]) -> tuple[Edge, ...]:
    found: dict[tuple[int, int, str], Edge] = {}
    for position, layer in enumerate(layers):
        for bottom in layer.bottoms:
            shape = "×".join(map(str, bottom.shape)) if bottom.shape is not None else ""
            for maker in bottom.makers:
                start, end = box_of[maker], box_of[position]
                if start != end:
                    found.setdefault(
                        (start, end, bottom.name), Edge(start, end, bottom.name, shape)
                    )
    return tuple(found.values())
