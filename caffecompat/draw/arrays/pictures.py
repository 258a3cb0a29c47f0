"""Filters and activations as small PNG pictures."""

from __future__ import annotations

import base64
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Pixels, encode_image, rescale_image

Array = NDArray[np.floating]

# Filters without three channels: how many outputs are below, and inputs beside, each other.
_MOST_OUTPUTS, _MOST_INPUTS = 16, 24
_MOST_FILTERS = 96
_MOST_MAPS = 64
_LONGEST_MAP_SIDE = 48
_SMALLEST_KERNEL_SIDE = 12
# Maps of at least this side are encoded as JPEG, which takes a third of the bytes.
_SMALLEST_SIDE_OF_JPEG = 16
# A matrix is averaged to at most this many rows and columns.
_MATRIX_ROWS, _MATRIX_COLUMNS = 128, 256
_SEPARATOR = 232
# The share of the values that the scale covers; the rest is drawn as its ends.
_COVERED = 99.5
# B, G, R of the lowest, the middle and the highest value.
_NEGATIVE, _ZERO, _POSITIVE = np.array([(168, 92, 33), (247, 247, 247), (43, 24, 178)], np.float32)
_RAMP = np.array(
    [(40, 16, 22), (110, 40, 60), (120, 60, 150), (80, 110, 225), (90, 180, 250), (200, 240, 252)],
    np.float32,
)


def filter_picture(weight: Array) -> tuple[str, str] | None:
    """A weight as a picture, and what it shows; None for shapes that no picture helps with.

    Args:
        weight: outputs x inputs x height x width, or outputs x inputs.

    Returns:
        The address with the data of the PNG, and a sentence.
    """
    if weight.ndim > 4 or weight.ndim < 2 or not weight.size:
        return None
    if weight.ndim == 4 and max(weight.shape[2:]) > 1:
        if max(weight.shape[2:]) > _LONGEST_MAP_SIDE:
            return None
        if weight.shape[1] == 3:
            return _colour_filters(weight)
        return _kernels(weight)
    matrix = weight.reshape(weight.shape[0], -1)
    if min(matrix.shape) < 2:
        return None
    small = _averaged(_averaged(matrix, _MATRIX_ROWS, 0), _MATRIX_COLUMNS, 1)
    reduced = ", averaged over neighbours" if small.shape != matrix.shape else ""
    rows, columns = matrix.shape
    sentence = f"matrix of {rows:,} outputs (rows) and {columns:,} inputs{reduced}"
    return _address(_two_sided(small)), f"{sentence}; {_SCALE_WORDS}"


_SCALE_WORDS = "blue is negative, white is zero, red is positive"


def _colour_filters(weight: Array) -> tuple[str, str]:
    """Filters of three input channels, which are taken as blue, green and red."""
    shown = np.asarray(weight[:_MOST_FILTERS], np.float32)
    limit = _limit(shown)
    tiles = np.clip(127.5 + 127.5 * shown / limit, 0, 255).round().astype(np.uint8)
    enlarged = [_enlarged(tile) for tile in tiles.transpose(0, 2, 3, 1)]
    picture = _grid(enlarged, ceil(sqrt(len(tiles) * 1.6)))
    return _address(picture), f"{_of(len(shown), len(weight))} filters; gray is zero"


def _kernels(weight: Array) -> tuple[str, str]:
    shown = np.asarray(weight[:_MOST_OUTPUTS, :_MOST_INPUTS], np.float32)
    outputs, inputs = shown.shape[:2]
    coloured = _two_sided(shown.reshape(outputs * inputs, -1)).reshape(*shown.shape, 3)
    picture = _grid([_enlarged(tile) for row in coloured for tile in row], inputs)
    counts = f"{_of(outputs, weight.shape[0])} outputs (rows)"
    return (
        _address(picture),
        f"{counts}, {_of(inputs, weight.shape[1])} inputs; {_SCALE_WORDS}",
    )


def activation_picture(value: Array) -> tuple[str, str] | None:
    """The maps of one image as a picture, and what it shows.

    Args:
        value: channels x height x width.

    Returns:
        The address with the data of the picture, and a sentence; None for other shapes, and where
        all values are equal.
    """
    if value.ndim != 3 or not value.size or max(value.shape[1:]) < 2:
        return None
    shown = np.asarray(value[:_MOST_MAPS], np.float32)
    finite = shown[np.isfinite(shown)]
    low, high = np.percentile(finite, [100 - _COVERED, _COVERED]) if finite.size else (0, 0)
    if not high > low:
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    if not high > low:
        return None
    gray = np.nan_to_num((shown - low) * (255 / (high - low)), nan=0, posinf=255, neginf=0)
    tiles = [_reduced(tile) for tile in np.clip(gray, 0, 255).round().astype(np.uint8)]
    picture = _grid([_ramp(tile) for tile in tiles], ceil(sqrt(len(tiles))))
    words = f"{_of(len(shown), len(value))} channels; dark is {low:.3g}, light is {high:.3g}"
    encoding = "jpg" if min(tiles[0].shape) >= _SMALLEST_SIDE_OF_JPEG else "png"
    return _address(picture, encoding), words


def _enlarged(tile: Pixels) -> Pixels:
    """A small kernel in larger pixels, so that the lines between kernels are thin beside it."""
    factor = max(1, _SMALLEST_KERNEL_SIDE // max(tile.shape[:2]))
    return np.repeat(np.repeat(tile, factor, 0), factor, 1)


def _reduced(tile: Pixels) -> Pixels:
    longest = max(tile.shape)
    if longest <= _LONGEST_MAP_SIDE:
        return tile
    height, width = (max(1, side * _LONGEST_MAP_SIDE // longest) for side in tile.shape)
    return rescale_image(tile, height, width, "area")


def _ramp(tile: Pixels) -> Pixels:
    """A gray tile in colours from dark to light."""
    position = tile.astype(np.float32) * ((len(_RAMP) - 1) / 255)
    below = np.minimum(position.astype(np.int64), len(_RAMP) - 2)
    share = (position - below)[..., None]
    colours = _RAMP[below] * (1 - share) + _RAMP[below + 1] * share
    return colours.round().astype(np.uint8)


def _two_sided(values: Array) -> Pixels:
    """Colours for values around zero, with a last axis of B, G, R."""
    share = np.clip(np.nan_to_num(values / _limit(values)), -1, 1)[..., None]
    ends = np.where(share < 0, _NEGATIVE, _POSITIVE)
    colours = _ZERO + np.abs(share) * (ends - _ZERO)
    return colours.round().astype(np.uint8)


def _limit(values: Array) -> float:
    """The absolute value that gets the strongest colour."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.percentile(finite, _COVERED)) if finite.size and finite.max() > 0 else 1.0


def _averaged(matrix: Array, most: int, axis: int) -> Array:
    """At most ``most`` rows or columns, each the mean of neighbours."""
    length = matrix.shape[axis]
    if length <= most:
        return matrix
    starts = np.arange(most) * length // most
    counts = np.diff(np.append(starts, length))
    sums = np.add.reduceat(matrix, starts, axis=axis, dtype=np.float32)
    means: Array = sums / (counts[:, None] if axis == 0 else counts)
    return means


def _grid(tiles: list[Pixels], columns: int) -> Pixels:
    """Tiles of one size (height x width x 3) in rows, with lines of one pixel between them."""
    height, width = tiles[0].shape[:2]
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, 3), _SEPARATOR, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _of(shown: int, count: int) -> str:
    return f"all {count}" if shown == count else f"the first {shown} of {count:,}"


def _address(pixels: Pixels, encoding: str = "png") -> str:
    data = base64.b64encode(encode_image(pixels, encoding)).decode()
    return f"data:image/{'jpeg' if encoding == 'jpg' else encoding};base64,{data}"
