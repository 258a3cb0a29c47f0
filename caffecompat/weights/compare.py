"""Two weight files side by side: which layers, which shapes, how far the values are apart."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from caffecompat.weights.blob_shapes import fit
from caffecompat.weights.mapped import forget
from caffecompat.weights.weights import LayerWeights, Weights

PIECE = 1 << 21


@dataclass(frozen=True)
class BlobDistance:
    """How far two blobs of one shape are apart.

    Attributes:
        layer, index: which blob.
        shape: of the first file's.
        largest: the largest absolute difference of two elements that are both numbers.
        relative: that, divided by the largest absolute value in either blob; 0 where all is 0.
        nans: elements that are NaN in one blob only.
    """

    layer: str
    index: int
    shape: tuple[int, ...]
    largest: float
    relative: float
    nans: int

    def within(self, tolerance: float) -> bool:
        return self.largest <= tolerance and not self.nans


@dataclass
class WeightsComparison:
    """What two weight files have in common and what not.

    Attributes:
        structure: one sentence per layer, type, number of blobs or shape that differs.
        distances: all blobs that could be compared, equal ones too.
    """

    structure: list[str] = field(default_factory=list)
    distances: list[BlobDistance] = field(default_factory=list)

    def differs(self, tolerance: float = 0.0) -> bool:
        return bool(self.structure) or not all(d.within(tolerance) for d in self.distances)


def compare_weights(
    one: Weights, other: Weights, names: tuple[str, str] = ("the first", "the second")
) -> WeightsComparison:
    """Compares layer by layer, by name; of layers with one name the last counts, as in Caffe.

    Layers without parameters count only where both files are caffemodels of one generation, since
    the other formats do not keep them; types only where both files know them. A blob with the old
    four sizes agrees with the shape of today as it does when it is loaded.

    Args:
        one, other: weights that nobody else is looking at; mapped memory is given back.
        names: what to call them in sentences.
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
        if fit(a, a_legacy, b.shape) is None and fit(b, b_legacy, a.shape) is None:
            result.structure.append(
                f"layer {one.name!r}{_of_type(one)}: blob {index} is {_shape(a)} here, "
                f"{_shape(b)} there"
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
            forget(piece)
    relative = largest / scale if scale else 0.0
    return BlobDistance(layer, index, a.shape, largest, relative, nans)


def _largest(piece: np.ndarray) -> float:
    sizes = np.abs(piece)
    return float(np.fmax.reduce(sizes, initial=0.0))


def _of_type(layer: LayerWeights) -> str:
    return f" ({layer.type})" if layer.type else ""


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "()"


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two float32 arrays hold the same values bit by bit, in whatever shapes."""
    if a.size != b.size:
        return False
    ours, theirs = a.reshape(-1), b.reshape(-1)
    return all(
        bytes(ours[start : start + PIECE]) == bytes(theirs[start : start + PIECE])
        for start in range(0, ours.size, PIECE)
    )
