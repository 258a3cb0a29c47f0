"""Which layers take part in a backward pass, and which of their bottoms get a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffecompat.graph import Version
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
    one. Layers that ignore ``propagate_down`` give all their bottoms one.
    """
    needs = asked_needs(layers, force_backward)
    for built, runs, bottoms in zip(layers, needs.layers, needs.bottoms, strict=True):
        if runs and built.layer is not None and built.layer.ignores_propagate_down:
            bottoms[:] = [need or _can_have(built, i) for i, need in enumerate(bottoms)]
    return needs


def asked_needs(layers: Sequence[BuiltLayer], force_backward: bool) -> BackwardNeeds:
    """What Caffe asks its layers for, and logs; some compute the gradients of more bottoms."""
    needs = _from_parameters(layers)
    _drop_what_no_loss_needs(layers, needs)
    if force_backward:
        needs.layers[:] = [True] * len(layers)
        for built, bottoms in zip(layers, needs.bottoms, strict=True):
            bottoms[:] = [need or _can_have(built, i) for i, need in enumerate(bottoms)]
    return needs


def stopped_bottoms(layers: Sequence[BuiltLayer], force_backward: bool) -> list[tuple[bool, ...]]:
    """For each bottom of each layer, whether no gradient goes there (``propagate_down: false``).

    Some types of Caffe compute the gradient of their bottoms whatever ``propagate_down`` says. It
    arrives if what has made the bottom runs backward for another reason: if it is a split with
    other readers, or a layer with another top that needs a gradient.
    """
    stopped = [built.blocked for built in layers]
    ignoring = {
        i
        for i, built in enumerate(layers)
        if any(built.blocked) and built.layer is not None and built.layer.ignores_propagate_down
    }
    if not ignoring:
        return stopped
    runs = backward_needs(layers, force_backward).layers
    makers: dict[Version, int] = {}
    for i, built in enumerate(layers):
        if i in ignoring:
            stopped[i] = tuple(
                blocked and not runs[makers[bottom]]
                for blocked, bottom in zip(built.blocked, built.bottoms, strict=True)
            )
        makers.update(dict.fromkeys(built.tops, i))
    return stopped


def notes_on_ignored_propagate_down(
    layers: Sequence[BuiltLayer], stopped: Sequence[tuple[bool, ...]]
) -> list[str]:
    """Notes on bottoms whose gradient arrives in spite of ``propagate_down: false``.

    Args:
        stopped: what :func:`stopped_bottoms` finds.
    """
    return [
        f"{built.place}: propagate_down: false has no effect on {name!r}: as in Caffe, "
        f"{built.type} computes the gradient all the same, and the backward pass goes on "
        f"below {name!r} anyway"
        for built, found in zip(layers, stopped, strict=True)
        for name, asked, stops in zip(built.node.message.bottom, built.blocked, found, strict=True)
        if asked and not stops
    ]


def _from_parameters(layers: Sequence[BuiltLayer]) -> BackwardNeeds:
    blobs: dict[str, bool] = {}
    needs = BackwardNeeds([], [])
    for built in layers:
        asked = list(built.node.message.propagate_down)
        before = [blobs[bottom.blob] for bottom in built.bottoms]
        given = built.node.message.param
        # Caffe looks at the layer's own entries alone, of statistics too.
        learns = any(
            i >= len(given) or given[i].lr_mult != 0
            for i in range(len(built.layer.specs) if built.layer is not None else 0)
        )
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
