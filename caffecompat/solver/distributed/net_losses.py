"""The losses of a net, and how each depends on the number of samples in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from caffecompat.layers import LossReduction
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer

Reductions = dict[int, LossReduction]


@dataclass(frozen=True)
class NetLosses:
    """The tops of a net that are losses.

    Attributes:
        layers: each layer with the reductions of its losses by position of the top; empty for most
            layers.
        blobs: names of the losses and of the scalars that other layers compute from them.
    """

    layers: list[tuple[BuiltLayer, Reductions]]
    blobs: set[str]


def find_losses(net: Net) -> NetLosses:
    """The losses of all layers of ``net``; a scalar computed from a loss is not a loss itself."""
    found = NetLosses([], set())
    for built in net.layers:
        single = all(shape == () for shape in built.shapes)
        if single and any(bottom.blob in found.blobs for bottom in built.bottoms):
            reductions: Reductions = {}
            found.blobs.update(top.blob for top in built.tops)
        else:
            reductions = _losses_of(built)
            found.blobs.update(built.tops[position].blob for position in reductions)
        found.layers.append((built, reductions))
    return found


def _losses_of(built: BuiltLayer) -> Reductions:
    """The losses of one layer.

    A layer's own declaration applies to its first top. Without one, the first top of a loss type
    is a loss, and so is every scalar top that has a loss weight.
    """
    layer = built.layer
    if layer is None:
        return {}
    declared = layer.loss_reduction
    if declared is not None and declared.kind != "unknown":
        return {0: declared}
    # Python layers declare nothing, and many give their loss the shape (1,).
    numbers = [shape == () if declared is None else prod(shape) == 1 for shape in built.shapes]
    found = {i for i, weight in enumerate(built.loss_weights) if weight and numbers[i]}
    return dict.fromkeys(found | ({0} if layer.is_loss else set()), LossReduction.unknown())
