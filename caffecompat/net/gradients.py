"""Which inputs of a net must carry gradients (Caffe's rules for ``propagate_down``)."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.graph import Version
from caffecompat.net.build import BuiltLayer


def inputs_with_gradient(layers: Sequence[BuiltLayer], force_backward: bool) -> set[Version]:
    """Source tops whose gradient is wanted.

    With ``force_backward`` these are all. Otherwise ``propagate_down: true`` asks for the gradient
    of an input, and gets it where the layer runs backward anyway: it has something to learn, or
    another of its bottoms needs a gradient.
    """
    sources = {top for b in layers if b.source is not None for top in b.tops}
    if force_backward:
        return sources
    wanted: set[Version] = set()
    alias: dict[Version, Version] = {}
    needs: set[Version] = set()
    for built in layers:
        bottoms = [alias.get(bottom, bottom) for bottom in built.bottoms]
        if built.node.automatic:
            alias.update(dict.fromkeys(built.tops, bottoms[0]))
            continue
        learns = any(use.lr_mult != 0 for use in built.uses)
        if learns or any(bottom in needs for bottom in bottoms):
            needs.update(built.tops)
            asked = list(built.node.message.propagate_down)
            if not asked and built.layer is not None and built.layer.gives_inputs_gradients:
                asked = [True] * len(bottoms)
            wanted.update(b for b, yes in zip(bottoms, asked, strict=False) if yes and b in sources)
    return wanted


def needs_backward(layers: Sequence[BuiltLayer], force_backward: bool) -> list[bool]:
    """For each layer whether a backward pass runs through it, as Caffe's log states it.

    A layer needs it if something below it (or in it) learns and a loss lies above it.
    """
    below: set[Version] = set()
    learning: list[bool] = []
    for built in layers:
        learns = force_backward or any(use.lr_mult != 0 for use in built.uses)
        learns = learns or any(bottom in below for bottom in built.bottoms)
        learns = learns and built.source is None
        if learns:
            below.update(built.tops)
        learning.append(learns)
    above: set[Version] = set()
    result: list[bool] = [False] * len(layers)
    for i in reversed(range(len(layers))):
        built = layers[i]
        leads = any(built.loss_weights) or any(top in above for top in built.tops)
        if leads or force_backward:
            open_bottoms = zip(built.bottoms, built.blocked, strict=False)
            above.update(bottom for bottom, blocked in open_bottoms if not blocked)
        result[i] = learning[i] and (leads or force_backward)
    return result
