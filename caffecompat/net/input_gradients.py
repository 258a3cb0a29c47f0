"""Which bottoms and inputs get gradients (Caffe's rules for ``propagate_down``)."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.errors import LayerError
from caffecompat.graph import LayerNode, Version
from caffecompat.net.built_layer import BuiltLayer


def inputs_with_gradient(layers: Sequence[BuiltLayer], force_backward: bool) -> set[Version]:
    """The source tops that get gradients.

    With ``force_backward`` all of them do. Otherwise an input gets a gradient if a layer has
    ``propagate_down: true`` for it and runs backward anyway, that is, if the layer has learned
    parameters or another bottom that needs a gradient.
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
            if not asked and built.layer is not None and built.layer.forces_gradients:
                asked = [True] * len(bottoms)
            wanted.update(b for b, yes in zip(bottoms, asked, strict=False) if yes and b in sources)
    return wanted


def blocked_bottoms(node: LayerNode, force_backward: bool) -> tuple[bool, ...]:
    """For each bottom, whether its gradient is stopped.

    Raises:
        LayerError: the number of ``propagate_down`` values is not that of the bottoms.
    """
    given = node.message.propagate_down
    if given and len(given) != len(node.bottoms):
        raise LayerError(
            f"{node.place}: has {len(given)} propagate_down values for {len(node.bottoms)} "
            "bottom(s); give none, or one for each bottom"
        )
    if force_backward or not given:
        return (False,) * len(node.bottoms)
    return tuple(not value for value in given)
