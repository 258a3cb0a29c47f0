"""Colour statistics of a data set, and the colour shift of Krizhevsky et al. (2012).

The vector ``p1 a1 d1 + p2 a2 d2 + p3 a3 d3`` is added to each pixel of an image: p are the
principal components of the colours of the training set, a are normal draws for each use of an
image (standard deviation 0.1 in the paper), d are the standard deviations of the colours along
each component.

The paper calls d the eigenvalue. The constants published with later nets (55.46, 4.794, 1.148 for
0...255) scale with the pixel range, not with its square, so they are standard deviations. Here d
is the square root of an eigenvalue of the covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.counter_rng import normal
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

Doubles = NDArray[np.float64]

_CHANNELS = 3


@dataclass(frozen=True)
class ColourPCA:
    """The colours of a data set, in B, G, R order.

    Attributes:
        mean: of each channel; shape (3,).
        components: unit vectors as columns, in order of decreasing deviation; 3 x 3. The element
            of largest magnitude is positive in each, so that the sign is unique.
        deviations: square roots of the eigenvalues of the covariance; shape (3,).
        pixels: number of pixels.
    """

    mean: Doubles
    components: Doubles
    deviations: Doubles
    pixels: int


class ColourSums:
    """Accumulates sums of colours over images; all pixels have the same weight."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = np.zeros(_CHANNELS)
        self._products = np.zeros((_CHANNELS, _CHANNELS))

    def add(self, pixels: NDArray[Any]) -> None:
        """Adds the colours of one image, 3 x height x width.

        Raises:
            DataError: it does not have 3 channels.
        """
        if len(pixels) != _CHANNELS:
            raise DataError(f"it has {len(pixels)} channels; colour statistics need 3")
        # Centred at the middle of the range, which reduces rounding errors within one image.
        values = pixels.reshape(_CHANNELS, -1).astype(np.float32) - np.float32(128)
        self._count += values.shape[1]
        self._sum += values.sum(axis=1, dtype=np.float64)
        self._products += values @ values.T

    def finish(self) -> ColourPCA:
        """The statistics of all added colours.

        Raises:
            DataError: there are none.
        """
        if not self._count:
            raise DataError("there are no images, so there is no mean colour")
        mean = self._sum / self._count
        return colour_pca(
            mean + 128, self._products / self._count - np.outer(mean, mean), self._count
        )


def colour_pca(mean: Doubles, covariance: Doubles, pixels: int) -> ColourPCA:
    """Principal components from the mean (3,) and the covariance (3 x 3) of ``pixels`` colours."""
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(values)[::-1]
    vectors = vectors[:, order]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(_CHANNELS)])
    # Rounding may make an eigenvalue of 0 slightly negative.
    return ColourPCA(mean, vectors, np.sqrt(np.maximum(values[order], 0)), pixels)


class RandomShift:
    """The colour shift of a ``transform_param``, drawn for each use of an image.

    Args:
        message: a TransformationParameter with ``colour_shift_std``. ``colour_eigenvalue`` are
            deviations as in :class:`ColourPCA`, ``colour_eigenvector`` the concatenated components.

    Raises:
        DataError: values or vectors are missing, do not match in number, or are not finite.
    """

    def __init__(self, message: Message) -> None:
        values = np.array(message.colour_eigenvalue, np.float64)
        vectors = np.array(message.colour_eigenvector, np.float64)
        deviation = float(message.colour_shift_std)
        if not values.size or not vectors.size or vectors.size % values.size:
            raise DataError(
                f"transform_param: colour_shift_std is {deviation:g}, but there are {values.size} "
                f"colour_eigenvalue and {vectors.size} colour_eigenvector; give one value and one "
                "number per channel for each direction (compute-image-mean --channels prints them)"
            )
        if deviation < 0 or not np.isfinite([deviation, *values, *vectors]).all():
            raise DataError(
                "transform_param: colour_shift_std, colour_eigenvalue and colour_eigenvector must "
                f"be finite, and colour_shift_std ({deviation:g}) not below 0"
            )
        self._directions = deviation * values[:, None] * vectors.reshape(values.size, -1)

    @property
    def channels(self) -> int:
        """The number of channels that an image must have."""
        return self._directions.shape[1]

    def draw(self, seed: int, ordinals: NDArray[np.int64]) -> NDArray[np.float32]:
        """The shifts of the samples ``ordinals``, samples x channels; a pure function."""
        shift = np.zeros((len(ordinals), self.channels))
        for number, direction in enumerate(self._directions):
            shift += normal(seed, ordinals, f"colour {number}")[:, None] * direction
        return shift.astype(np.float32)


def describe(pca: ColourPCA) -> str:
    """Prototxt text of the statistics: ``mean_value`` lines, the colour shift as comments."""
    lines = [f"# colours of {pca.pixels} pixels, B, G, R"]
    lines += [f"mean_value: {value:.6g}" for value in pca.mean]
    lines.append("# The colour shift of Krizhevsky et al., which BVLC Caffe does not have. A value")
    lines.append("# is the standard deviation along its vector.")
    lines.append("# colour_shift_std: 0.1")
    for vector, deviation in zip(pca.components.T, pca.deviations, strict=True):
        lines.append(f"# colour_eigenvalue: {deviation:.6g}")
        lines.append(f"# colour_eigenvector: [{', '.join(f'{value:.6f}' for value in vector)}]")
    return "\n".join(lines) + "\n"
