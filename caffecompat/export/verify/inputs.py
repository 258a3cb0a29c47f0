"""Values for the inputs of two engines."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.engines.base import Arrays, Engine
from caffecompat.layers import Shape
from caffecompat.reporting.units import format_shape

# Enough to see values that go to the wrong sample.
LARGEST_BATCH = 2
REGIONS = 5
IMAGE_AXES = 4
# Height and width of images that may have any: most nets take them.
IMAGE_SIDE = 224
# Of all inputs together; random numbers take eight bytes each, and four more.
MOST_VALUES = 1 << 26

# Deviation of random pixels from the mean, and of the values of other inputs.
PIXEL_DEVIATION, DEVIATION = 50.0, 1.0


def draw_inputs(first: Engine, second: Engine, seed: int) -> Arrays:
    """Values for the inputs of both engines: recorded ones, else random ones.

    Pixels (4 axes, 1 or 3 channels) are those of an image from 0 to 1 if an engine has its
    preprocessing inside; else they are drawn around 0 as if a mean had been subtracted. Regions lie
    in the image, and facts about it are true. One engine may have inputs besides those of the
    other, which is then a part of the net.

    Raises:
        ExportError: the engines' inputs have different names or shapes.
    """
    for recorded in (first, second):
        if recorded.given:
            return dict(recorded.given)
    _check_names(first, second)
    shapes = _shapes(first, second)
    _check_sizes(shapes)
    generator = np.random.default_rng(seed)
    as_image = first.preprocessing is not None or second.preprocessing is not None
    indices = {**first.indices, **second.indices}
    image = next((shape for shape in shapes.values() if len(shape) == IMAGE_AXES), (1, 1, 1, 1))
    drawn = {}
    for name, shape in shapes.items():
        if name in indices:
            drawn[name] = generator.integers(0, indices[name], shape).astype(np.float32)
        elif name in first.regions or name in second.regions:
            drawn[name] = _draw_regions(shape, image, generator)
        elif name in first.facts or name in second.facts:
            drawn[name] = _facts(shape, image)
        else:
            drawn[name] = _draw(shape, generator, as_image)
    return drawn


def _check_names(first: Engine, second: Engine) -> None:
    one, other = set(first.inputs), set(second.inputs)
    if not one & other or not (one <= other or other <= one):
        raise ExportError(
            f"the inputs are called {_listed(first.inputs)} in one and {_listed(second.inputs)} in "
            "the other; they must have the same names"
        )


def _check_sizes(shapes: Mapping[str, Shape]) -> None:
    """Refuses shapes that are none, and more values than are drawn."""
    for name, shape in shapes.items():
        if min(shape, default=0) < 0:
            raise ExportError(f"input {name!r} is {format_shape(shape)}, with a negative extent")
    count = sum(prod(shape) for shape in shapes.values())
    if count > MOST_VALUES:
        raise ExportError(
            f"the inputs have {count:,} values, more than the {MOST_VALUES:,} that are drawn; "
            "verify the model with a smaller batch"
        )


def _shapes(first: Engine, second: Engine) -> dict[str, Shape]:
    """The shapes to draw, by name."""
    shapes = {}
    for name in dict.fromkeys([*first.inputs, *second.inputs]):
        one, other = first.inputs.get(name), second.inputs.get(name)
        shape = _common_shape(name, one or other or (), other or one or ())
        free = not (one or (1,))[0] or not (other or (1,))[0]
        if free and (name in first.regions or name in second.regions):
            shape = (REGIONS, *shape[1:])
        shapes[name] = shape
    return shapes


def _draw_regions(shape: Shape, image: Shape, generator: np.random.Generator) -> np.ndarray:
    """Rows [image, x1, y1, x2, y2] with corners in an image of the shape ``image``."""
    rows = shape[0]
    edges = np.sort(generator.random((rows, 2, 2)), 1) * [image[3] - 1, image[2] - 1]
    of = generator.integers(0, image[0], (rows, 1))
    return np.concatenate([of, edges.reshape(rows, 4)], 1).reshape(shape).astype(np.float32)


def _facts(shape: Shape, image: Shape) -> np.ndarray:
    """Height and width of an image of the shape ``image``, and scales of 1."""
    values = np.ones(shape, np.float32)
    values.reshape(-1)[:2] = image[2:]
    return values


def _listed(names: Mapping[str, Shape]) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _common_shape(name: str, first: Shape, second: Shape) -> Shape:
    """The shape that both take; an extent that neither fixes is 1, of an image its side.

    If one of them takes batches of any size, the batch is small.
    """
    fits = len(first) == len(second) and all(
        a == b or 0 in (a, b) for a, b in zip(first, second, strict=False)
    )
    if not fits:
        raise ExportError(
            f"input {name!r} is {format_shape(first)} in one and {format_shape(second)} in the "
            "other; they must have the same shape"
        )
    sides = (1, 1, IMAGE_SIDE, IMAGE_SIDE) if len(first) == IMAGE_AXES else (1,) * len(first)
    shape = tuple(a or b or side for a, b, side in zip(first, second, sides, strict=True))
    free = bool(shape) and 0 in (first[0], second[0])
    return (min(shape[0], LARGEST_BATCH), *shape[1:]) if free else shape


def _draw(shape: Shape, generator: np.random.Generator, as_image: bool) -> np.ndarray:
    if len(shape) != 4 or shape[1] not in (1, 3):
        return generator.normal(0, DEVIATION, shape).astype(np.float32)
    if as_image:
        return generator.random(shape, np.float32)
    return generator.normal(0, PIXEL_DEVIATION, shape).astype(np.float32)
