"""A layer of a net after its setup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.graph import LayerNode, ParameterUse, Version
from caffecompat.layers import Layer, Shape, Source

if TYPE_CHECKING:
    from caffecompat.net.module import LayerModule


@dataclass(frozen=True)
class BuiltLayer:
    """A layer of a net after its setup: its shapes are known, its parameters are on ``meta``.

    Attributes:
        node: the layer's node in the graph.
        key: the name of its module in torch.
        layer: None for automatic splits.
        module: None for automatic splits and for sources.
        tops: the versions of its tops, including automatic ones.
        shapes: the shapes of its tops.
        loss_weights: the loss weights of its tops.
        read: for each top, whether another layer reads it. The gradient of such a top comes from
            its readers alone: its loss weight counts in the printed loss, but does not train.
        blocked: for each bottom, whether its gradient is stopped (``propagate_down: false``).
        uses: its parameters, with their owners and multipliers.
        rows: for a source, the rows to keep of each top; None for all.
    """

    node: LayerNode
    key: str
    layer: Layer | None
    module: LayerModule | None
    tops: tuple[Version, ...]
    shapes: Sequence[Shape]
    loss_weights: tuple[float, ...]
    read: tuple[bool, ...]
    blocked: tuple[bool, ...]
    uses: Sequence[ParameterUse] = ()
    rows: Sequence[slice] | None = None

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def type(self) -> str:
        return self.node.type

    @property
    def place(self) -> str:
        return self.node.place

    @property
    def bottoms(self) -> tuple[Version, ...]:
        return self.node.bottoms

    @property
    def changes_buffers(self) -> bool:
        """Whether forward passes may change its buffers, such as running statistics."""
        layer = self.layer
        if layer is None or all(spec.learned for spec in layer.specs):
            return False
        return layer.counts_passes or layer.batch_coupling is not None

    @property
    def source(self) -> Source | None:
        return self.layer if isinstance(self.layer, Source) else None
