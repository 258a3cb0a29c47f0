"""Comparison of two weight files: layers, shapes, and distances of values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from caffecompat.reporting.units import format_shape
from caffecompat.weights.blob_shapes import match_shape
from caffecompat.weights.mapped import release_pages
from caffecompat.weights.weights import LayerWeights, Weights

# Elements compared at a time.
PIECE = 1 << 21
# Bytes compared at a time, which goes fastest within a processor's cache.
BITS_PIECE = 1 << 18


@dataclass(frozen=True)
class BlobDistance:
    """The distance of two blobs.

    Attributes:
        layer, index: the layer's name, and the blob's position in it.
        shape: the blob's shape in the first file.
        largest: the largest absolute difference of two elements that are both not NaN.
        relative: ``largest`` divided by the largest absolute value in either blob; 0 if all are 0.
        nans: number of elements that are NaN in one blob only.
    """

    layer: str
    index: int
    shape: tuple[int, ...]
    largest: float
    relative: float
    nans: int

    def within(self, tolerance: float) -> bool:
        """Whether no difference is above ``tolerance``, and NaNs are in the same places."""
        return self.largest <= tolerance and not self.nans


@dataclass
class WeightsComparison:
    """The result of a comparison.

    Attributes:
        structure: one sentence per difference in layers, types, numbers of blobs or shapes.
        distances: all compared blobs, including equal ones.
    """

    structure: list[str] = field(default_factory=list)
    distances: list[BlobDistance] = field(default_factory=list)

    def differs(self, tolerance: float = 0.0) -> bool:
        """Whether the structure differs, or any value by more than ``tolerance``."""
        return bool(self.structure) or not all(d.within(tolerance) for d in self.distances)


def compare_weights(
    one: Weights, other: Weights, names: tuple[str, str] = ("the first", "the second")
) -> WeightsComparison:
    """Compares layers by name; among layers of one name the last is used, as in Caffe.

    Layers without parameters are compared only if both files are caffemodels of one generation,
    since other formats do not store them; types only if both files have them. A blob with the
    legacy four sizes matches the shapes that it matches when it is loaded.

    Args:
        one, other: the weights. Their mapped pages are released, so unsaved changes are lost.
        names: names of the two files in sentences.
    """
    result = WeightsComparison()
    both = one.format, one.generation, other.format, other.generation
    all_layers = both[:2] == both[2:] and one.format == "caffemodel"
    ours, theirs = dict(one.items()), dict(other.items())
    for first, second, name in ((ours, theirs, names[0]), (theirs, ours, names[1])):
        result.structure += [
            f"layer {layer.name!r}{_of_type(layer)} is in {name} only"
            for layer in first.values()
            if layer.name not in second and (layer.blobs or all_layers)
        ]
    for layer in ours.values():
        if layer.name in theirs:
            _compare_layer(layer, theirs[layer.name], result)
    return result


def _compare_layer(one: LayerWeights, other: LayerWeights, result: WeightsComparison) -> None:
    if one.type and other.type and one.type != other.type:
        result.structure.append(f"layer {one.name!r} is {one.type} here, {other.type} there")
    if len(one.blobs) != len(other.blobs):
        result.structure.append(
            f"layer {one.name!r}{_of_type(one)} has {len(one.blobs)} blobs here, "
            f"{len(other.blobs)} there"
        )
        return
    pairs = zip(one.blobs, one.legacy, other.blobs, other.legacy, strict=True)
    for index, (a, a_legacy, b, b_legacy) in enumerate(pairs):
        if match_shape(a, a_legacy, b.shape) is None and match_shape(b, b_legacy, a.shape) is None:
            result.structure.append(
                f"layer {one.name!r}{_of_type(one)}: blob {index} is {format_shape(a.shape)} here, "
                f"{format_shape(b.shape)} there"
            )
        else:
            result.distances.append(_distance(one.name, index, a, b))


def _distance(layer: str, index: int, a: np.ndarray, b: np.ndarray) -> BlobDistance:
    largest, scale, nans = 0.0, 0.0, 0
    ours, theirs = a.reshape(-1), b.reshape(-1)
    for start in range(0, ours.size, PIECE):
        pair = ours[start : start + PIECE], theirs[start : start + PIECE]
        # Differences of float32 are exact in float64; infinities of one sign are equal.
        x, y = (piece.astype(np.float64) for piece in pair)
        unequal = x != y
        if unequal.any():
            x, y = x[unequal], y[unequal]
            lonely = np.isnan(x) != np.isnan(y)
            nans += int(lonely.sum())
            apart = np.abs(x - y)[~np.isnan(x) & ~np.isnan(y)]
            largest = max(largest, float(apart.max(initial=0.0)))
        scale = max(scale, _largest(pair[0]), _largest(pair[1]))
        for piece in pair:
            release_pages(piece)
    relative = largest / scale if scale else 0.0
    return BlobDistance(layer, index, a.shape, largest, relative, nans)


def _largest(piece: np.ndarray) -> float:
    sizes = np.abs(piece)
    return float(np.fmax.reduce(sizes, initial=0.0))


def _of_type(layer: LayerWeights) -> str:
    return f" ({layer.type})" if layer.type else ""


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two float32 arrays hold the same values bit by bit, in whatever shapes."""
    if a.size != b.size:
        return False
    ours, theirs = (x.reshape(-1).view(np.uint8) for x in (a, b))
    pieces = (slice(start, start + BITS_PIECE) for start in range(0, ours.size, BITS_PIECE))
    return all(bool((ours[piece] == theirs[piece]).all()) for piece in pieces)
