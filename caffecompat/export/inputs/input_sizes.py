"""Which input sizes a net can take, found by inferring its shapes with other sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from caffecompat.errors import CaffeError
from caffecompat.export.inputs.region_inputs import axis_of_rows, region_inputs
from caffecompat.graph import Version
from caffecompat.layers import Shape
from caffecompat.net import Net
from caffecompat.net.shapes.top_shapes import infer_shapes

# Added to height and width. Multiples of 32 suit nets that reduce and enlarge maps by powers of 2.
MORE_ROWS, MORE_COLUMNS = 64, 96
# Added to numbers of regions.
MORE_REGIONS = 3


class Freedom(Enum):
    """Which extents of the inputs may differ from those in the definition."""

    BATCH_AND_IMAGE = "batch, height and width"
    BATCH = "batch"
    IMAGE = "height and width"
    NONE = "none"


@dataclass(frozen=True)
class Sizes:
    """The shapes of all blob versions for several input sizes, those of the definition first."""

    freedom: Freedom
    shapes: Mapping[Version, tuple[Shape, ...]]


def possible_sizes(net: Net, wanted: Freedom) -> Sizes | None:
    """The shapes with the freedom ``wanted``; None if the net cannot take other sizes.

    Numbers of regions, as inputs or as made by layers, are free whatever is wanted.

    Args:
        net: a net built with ``shapes_only``.
    """
    inputs = {feed: tuple(net.shape_of(feed)) for feed in net.program().feeds}
    regions = {feed for feed in inputs if feed.blob in region_inputs(net)}
    trials = _trials(inputs, regions, wanted)
    if trials is None:
        return None
    if not trials and (regions or any(axis_of_rows(built) is not None for built in net.layers)):
        trials = [inputs]
    for trial in trials:
        trial.update({feed: _more_rows(inputs[feed]) for feed in regions})
    found = [_shapes(net, trial) for trial in trials]
    if any(shapes is None for shapes in found):
        return None
    own = {top: shape for b in net.layers for top, shape in zip(b.tops, b.shapes, strict=True)}
    every = [own, *(shapes for shapes in found if shapes is not None)]
    joined = {version: tuple(tuple(shapes[version]) for shapes in every) for version in own}
    return Sizes(wanted, joined)


Inputs = dict[Version, Shape]


def _trials(inputs: Inputs, regions: set[Version], wanted: Freedom) -> list[Inputs] | None:
    """Other shapes of the inputs, one for each freedom; None if they do not have it."""
    trials: list[Inputs] = []
    if wanted in (Freedom.BATCH, Freedom.BATCH_AND_IMAGE):
        batch = {shape[0] for feed, shape in inputs.items() if shape and feed not in regions}
        if len(batch) != 1:
            return None
        trials.append(
            {f: (shape[0] + 1, *shape[1:]) if shape else shape for f, shape in inputs.items()}
        )
    if wanted in (Freedom.IMAGE, Freedom.BATCH_AND_IMAGE):
        if not any(len(shape) == 4 for feed, shape in inputs.items() if feed not in regions):
            return None
        trials.append({feed: _larger(shape) for feed, shape in inputs.items()})
    return trials


def _larger(shape: Shape) -> Shape:
    if len(shape) != 4:
        return shape
    return (*shape[:2], shape[2] + MORE_ROWS, shape[3] + MORE_COLUMNS)


def _more_rows(shape: Shape, axis: int = 0) -> Shape:
    return (*shape[:axis], shape[axis] + MORE_REGIONS, *shape[axis + 1 :])


def _shapes(net: Net, inputs: Inputs) -> dict[Version, Shape] | None:
    """The shapes of all versions for some inputs; None if a layer does not take them."""
    shapes: dict[Version, Shape] = {}
    for built in net.layers:
        bottoms = [shapes[bottom] for bottom in built.bottoms]
        if built.source is not None:
            found = [
                inputs.get(top, shape) for top, shape in zip(built.tops, built.shapes, strict=True)
            ]
        elif built.module is None:
            found = [bottoms[0]] * len(built.tops)
        else:
            try:
                found = infer_shapes(built.module, built.node, bottoms, len(built.tops))
            except (CaffeError, NotImplementedError):  # torch's, for a meta tensor
                return None
            if (axis := axis_of_rows(built)) is not None:
                found = [_more_rows(shape, axis) for shape in found]
        shapes.update(zip(built.tops, found, strict=True))
    return shapes
