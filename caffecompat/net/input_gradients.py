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
            if not asked and built.layer is not None and built.layer.forces_input_gradients:
                asked = [True] * len(bottoms)
            wanted.update(b for b, yes in zip(bottoms, asked, strict=False) if yes and b in sources)
    return wanted
