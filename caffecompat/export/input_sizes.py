"""Which input sizes a net can take, found by running its shapes with other sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch

from caffecompat.errors import CaffeError
from caffecompat.graph import Version
from caffecompat.layers import Shape
from caffecompat.net import Net
from caffecompat.net.shapes.operator_shapes import OperatorShapes

# Added to height and width. Multiples of 32 suit nets that reduce and enlarge maps by powers of 2.
MORE_ROWS, MORE_COLUMNS = 64, 96

ImageAxes = (2, 3)


class Freedom(Enum):
    """Which extents of the inputs may differ from those in the definition."""

    BATCH_AND_IMAGE = "batch, height and width"
    BATCH = "batch"
    NONE = "none"


@dataclass(frozen=True)
class Sizes:
    """The shapes of all blob versions for several input sizes, those of the definition first."""

    freedom: Freedom
    shapes: Mapping[Version, tuple[Shape, ...]]


def possible_sizes(net: Net, wanted: Freedom) -> Sizes | None:
    """The shapes with the freedom ``wanted``; None if the net cannot take other sizes.

    Args:
        net: a net built with ``shapes_only``.
    """
    program = net.program(observed=True)
    inputs = [net.shape_of(feed) for feed in program.feeds]
    trials = [inputs]
    if wanted is not Freedom.NONE:
        batch = {shape[0] for shape in inputs if shape}
        if len(batch) != 1:
            return None
        trials.append([(shape[0] + 1, *shape[1:]) if shape else shape for shape in inputs])
    if wanted is Freedom.BATCH_AND_IMAGE:
        if not any(len(shape) == 4 for shape in inputs):
            return None
        trials.append([_larger(shape) for shape in inputs])
    found = [_shapes(net, shapes) for shapes in trials[1:]]
    if any(shapes is None for shapes in found):
        return None
    own = {top: shape for b in net.layers for top, shape in zip(b.tops, b.shapes, strict=True)}
    every = [own, *(shapes for shapes in found if shapes is not None)]
    joined = {version: tuple(shapes[version] for shapes in every) for version in own}
    return Sizes(wanted, joined)


def _larger(shape: Shape) -> Shape:
    if len(shape) != 4:
        return shape
    return (*shape[:2], shape[2] + MORE_ROWS, shape[3] + MORE_COLUMNS)


def _shapes(net: Net, inputs: Sequence[Shape]) -> dict[Version, Shape] | None:
    program = net.program(observed=True)
    try:
        with torch.no_grad(), OperatorShapes():
            values, _ = program([torch.empty(shape, device="meta") for shape in inputs])
    except (CaffeError, RuntimeError, NotImplementedError, IndexError, ValueError):
        return None
    return {version: tuple(value.shape) for version, value in values.items()}
