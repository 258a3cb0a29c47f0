"""Finds the layer in which a pass failed, after the failure."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from caffecompat.errors import LayerError, NetError, first_line
from caffecompat.graph import Version
from caffecompat.layers import Shape
from caffecompat.net.allocation import explain_allocation, is_out_of_memory
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.module import LayerModule
from caffecompat.net.shapes.top_shapes import infer_shapes

# In torch's sentences within a transform of torch.func: about an autograd.Function, and about
# statistics that are written to.
_FUNC, _WRITTEN = "functorch transforms", "mutate a captured Tensor"


def explain_failure(
    layers: Sequence[BuiltLayer],
    names: Sequence[Version],
    feeds: Sequence[torch.Tensor],
    error: RuntimeError,
) -> NetError:
    """The error to show for a pass in which torch raised ``error``.

    The layers run again on ``meta`` tensors in the shapes of the feeds; the error names the layer
    that cannot work on them.
    """
    if is_out_of_memory(error):
        device = feeds[0].device if feeds else torch.device("cpu")
        return explain_allocation(layers, device, error)
    transformed = _FUNC in str(error)
    shapes: dict[Version, Shape] = {
        name: tuple(value.shape) for name, value in zip(names, feeds, strict=True)
    }
    for built in layers:
        if built.source is not None:
            continue
        bottoms = [shapes[bottom] for bottom in built.bottoms]
        if built.layer is None:
            shapes.update(dict.fromkeys(built.tops, bottoms[0]))
            continue
        try:
            found = infer_shapes(LayerModule(built.layer), built.node, bottoms, len(built.tops))
        except LayerError as refusal:
            return _not_transformed(built.place) if transformed else refusal
        shapes.update(zip(built.tops, found, strict=True))
    if _WRITTEN in str(error):
        for built in layers:
            if built.changes_buffers:
                return _changes_statistics(built.place)
    return NetError(f"the pass failed: {first_line(error)}")


def _changes_statistics(place: str) -> LayerError:
    return LayerError(
        f"{place}: torch.func cannot transform a pass that changes its statistics; build the net "
        "with phase='test', or use torch.autograd.grad",
        place,
    )


def _not_transformed(place: str) -> LayerError:
    return LayerError(
        f"{place}: torch.func cannot transform it, since it computes its gradient itself; use "
        "torch.autograd.grad, or backward() of the net",
        place,
    )
