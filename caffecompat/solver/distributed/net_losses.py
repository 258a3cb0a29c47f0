"""The losses of a net, and how each depends on the number of samples in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from caffecompat.layers import LossReduction
from caffecompat.net import Net
from caffecompat.net.build import BuiltLayer

Reductions = dict[int, LossReduction]


@dataclass(frozen=True)
class NetLosses:
    """The tops of a net that are losses.

    Attributes:
        layers: each layer with its tops that are losses, by position, which most have none of.
        blobs: names of the losses and of the numbers that other layers make from them.
    """

    layers: list[tuple[BuiltLayer, Reductions]]
    blobs: set[str]


def find_losses(net: Net) -> NetLosses:
    """Asks each layer of ``net``; what is made from a loss is not taken for another one."""
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

    A layer's own declaration is about its first top. Where there is none, a loss type's first top
    is a loss, and so are tops that have a weight and are one number.
    """
    layer = built.layer
    if layer is None:
        return {}
    declared = layer.loss_reduction
    if declared is not None and declared.kind != "unknown":
        return {0: declared}
    # Code that cannot be asked, as pycaffe's, often gives a loss one axis.
    numbers = [shape == () if declared is None else prod(shape) == 1 for shape in built.shapes]
    found = {i for i, weight in enumerate(built.loss_weights) if weight and numbers[i]}
    return dict.fromkeys(found | ({0} if layer.is_loss else set()), LossReduction.unknown())
