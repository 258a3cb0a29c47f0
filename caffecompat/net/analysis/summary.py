"""Summary of a net: shapes, parameters and multiply-adds of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers import Shape

if TYPE_CHECKING:
    from caffecompat.net.structure import NetStructure


@dataclass(frozen=True)
class LayerRow:
    """One line of a summary. A shared parameter counts for its owner only."""

    name: str
    type: str
    tops: list[tuple[str, Shape]]
    parameter_shapes: list[Shape]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """The layers of a net.

    Attributes:
        batch: first extent of the first input, or 1; ``multiply_adds`` is for this batch size.
    """

    rows: list[LayerRow]
    batch: int

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        return sum(row.multiply_adds for row in self.rows)


def summarise(net: NetStructure) -> Summary:
    """The summary of a net, which may have been built with ``shapes_only``.

    Multiply-adds are the multiplications with weights (in Convolution, InnerProduct and similar
    types), as in the literature.
    """
    rows = []
    batch = 1
    for i, built in enumerate(net.layers):
        if built.node.automatic:
            continue
        if built.source is not None and batch == 1 and built.shapes and built.shapes[0]:
            batch = built.shapes[0][0]
        specs = built.layer.specs if built.layer else []
        owned = [use.owner == (i, j) for j, use in enumerate(built.uses)]
        bottoms = [net.shape_of(bottom) for bottom in built.bottoms]
        rows.append(
            LayerRow(
                built.name,
                built.type,
                [(top.blob, shape) for top, shape in zip(built.tops, built.shapes, strict=True)],
                [spec.shape for spec in specs],
                sum(prod(s.shape) for s, own in zip(specs, owned, strict=True) if own),
                built.layer.multiply_adds(bottoms, built.shapes) if built.layer else 0,
            )
        )
    return Summary(rows, batch)
