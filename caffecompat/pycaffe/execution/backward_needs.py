"""Which layers take part in a backward pass, and which of their bottoms get a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffecompat.net.built_layer import BuiltLayer


@dataclass
class BackwardNeeds:
    """What a backward pass computes, by layer. Source: Caffe's Net::Init.

    Attributes:
        layers: whether the layer runs backward.
        bottoms: for each bottom, whether its gradient is computed.
    """

    layers: list[bool]
    bottoms: list[list[bool]]


def backward_needs(layers: Sequence[BuiltLayer], force_backward: bool) -> BackwardNeeds:
    """The needs of a net.

    A layer runs backward if it or a layer before it has something to learn and if a loss depends
    on it. With ``force_backward`` every layer does, and every bottom that can have a gradient gets
    one.
    """
    needs = _from_parameters(layers)
    _drop_what_no_loss_needs(layers, needs)
    for i, built in enumerate(layers):
        # Caffe's BatchNorm computes the gradient of its bottom also where no layer asks for it.
        if needs.layers[i] and built.layer and any(not s.learned for s in built.layer.specs):
            needs.bottoms[i] = [True] * len(needs.bottoms[i])
    if force_backward:
        needs.layers[:] = [True] * len(layers)
        for built, bottoms in zip(layers, needs.bottoms, strict=True):
            bottoms[:] = [need or _can_have(built, i) for i, need in enumerate(bottoms)]
    return needs


def _from_parameters(layers: Sequence[BuiltLayer]) -> BackwardNeeds:
    blobs: dict[str, bool] = {}
    needs = BackwardNeeds([], [])
    for built in layers:
        asked = list(built.node.message.propagate_down)
        before = [blobs[bottom.blob] for bottom in built.bottoms]
        stated = built.node.message.param
        # A parameter without ``param`` counts, those too that BatchNorm does not learn.
        learns = any(i >= len(stated) or stated[i].lr_mult != 0 for i in range(len(built.uses)))
        # With ``propagate_down: false`` a layer runs backward, but gives no gradients.
        need = learns or any(before)
        for top in built.tops:
            blobs[top.blob] = blobs.get(top.blob, False) or need
        needs.layers.append(need)
        needs.bottoms.append([bool(bottom) for bottom in asked or before])
    return needs


def _drop_what_no_loss_needs(layers: Sequence[BuiltLayer], needs: BackwardNeeds) -> None:
    under_loss: set[str] = set()
    skipped: set[str] = set()
    for i in reversed(range(len(layers))):
        built, bottoms = layers[i], needs.bottoms[i]
        tops = [top.blob for top in built.tops]
        counts = any(built.loss_weights) or any(top in under_loss for top in tops)
        if needs.layers[i] and all(top in skipped for top in tops):
            needs.layers[i] = False
            bottoms[:] = [False] * len(bottoms)
        if not counts:
            needs.layers[i] = False
            bottoms[:] = [False] * len(bottoms)
        for bottom, need in zip(built.bottoms, bottoms, strict=True):
            if counts:
                under_loss.add(bottom.blob)
            if not need:
                skipped.add(bottom.blob)


def _can_have(built: BuiltLayer, bottom: int) -> bool:
    if built.layer is None:
        return True
    stated = built.layer.differentiable
    return stated[min(bottom, len(stated) - 1)]
