"""Colour statistics of a data set, and the colour shift of Krizhevsky et al. (2012).

To each pixel of an image is added ``p1 a1 d1 + p2 a2 d2 + p3 a3 d3``: p are the principal
components of the colours of the training set, a one normal draw each per use of the image
(deviation 0.1 in the paper), d how far the colours reach along each component.

The paper calls d the eigenvalue. The constants that were published with its successors
(55.46, 4.794, 1.148 for 0...255) scale as the pixel range does, not as its square, so they are
deviations: d is the square root of an eigenvalue of the covariance here.
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
        components: unit vectors as columns, the one of the largest deviation first; 3 x 3. The
            largest number of each is positive, so that they do not depend on the solver.
        deviations: square roots of the eigenvalues of the covariance; shape (3,).
        pixels: how many colours were counted.
    """

    mean: Doubles
    components: Doubles
    deviations: Doubles
    pixels: int


class ColourSums:
    """Adds up colours, image by image; every pixel counts the same."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = np.zeros(_CHANNELS)
        self._products = np.zeros((_CHANNELS, _CHANNELS))

    def add(self, pixels: NDArray[Any]) -> None:
        """Count the colours of one image, 3 x height x width.

        Raises:
            DataError: it has not 3 channels.
        """
        if len(pixels) != _CHANNELS:
            raise DataError(f"it has {len(pixels)} channels; colours are counted of 3")
        # Around the middle of the range, so that little is lost to rounding within one image.
        values = pixels.reshape(_CHANNELS, -1).astype(np.float32) - np.float32(128)
        self._count += values.shape[1]
        self._sum += values.sum(axis=1, dtype=np.float64)
        self._products += values @ values.T

    def finish(self) -> ColourPCA:
        """The statistics of all colours added.

        Raises:
            DataError: none were.
        """
        if not self._count:
            raise DataError("there are no images, so their colours have no mean")
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
    # Rounding may leave an eigenvalue of 0 a little below it.
    return ColourPCA(mean, vectors, np.sqrt(np.maximum(values[order], 0)), pixels)


class RandomShift:
    """The colour shift that a ``transform_param`` describes, drawn anew for each use of an image.

    Args:
        message: a TransformationParameter with ``colour_shift_std``. Its ``colour_eigenvalue`` are
            deviations as in :class:`ColourPCA`, its ``colour_eigenvector`` the components, one
            after the other.

    Raises:
        DataError: values or vectors are missing, of unfit number, or not finite.
    """

    def __init__(self, message: Message) -> None:
        values = np.array(message.colour_eigenvalue, np.float64)
        vectors = np.array(message.colour_eigenvector, np.float64)
        deviation = float(message.colour_shift_std)
        if not values.size or not vectors.size or vectors.size % values.size:
            raise DataError(
                f"transform_param: colour_shift_std is {deviation:g}, but there are {values.size} "
                f"colour_eigenvalue and {vectors.size} colour_eigenvector; give one value and one "
                "number per channel for each direction (compute-image-mean --channels finds them)"
            )
        if deviation < 0 or not np.isfinite([deviation, *values, *vectors]).all():
            raise DataError(
                "transform_param: colour_shift_std, colour_eigenvalue and colour_eigenvector must "
                f"be finite, and colour_shift_std ({deviation:g}) not below 0"
            )
        self._directions = deviation * values[:, None] * vectors.reshape(values.size, -1)

    @property
    def channels(self) -> int:
        """How many channels an image must have."""
        return self._directions.shape[1]

    def draw(self, seed: int, ordinals: NDArray[np.int64]) -> NDArray[np.float32]:
        """What is added to each channel of the samples ``ordinals``, samples x channels; pure."""
        shift = np.zeros((len(ordinals), self.channels))
        for number, direction in enumerate(self._directions):
            shift += normal(seed, ordinals, f"colour {number}")[:, None] * direction
        return shift.astype(np.float32)


def describe(pca: ColourPCA) -> str:
    """The statistics as text to paste: ``mean_value`` lines, the colour shift in comments."""
    lines = [f"# colours of {pca.pixels} pixels, B, G, R"]
    lines += [f"mean_value: {value:.6g}" for value in pca.mean]
    lines.append("# The colour shift of Krizhevsky et al., which BVLC Caffe does not know. A value")
    lines.append("# is the deviation along its vector, the square root of the covariance's.")
    lines.append("# colour_shift_std: 0.1")
    for vector, deviation in zip(pca.components.T, pca.deviations, strict=True):
        lines.append(f"# colour_eigenvalue: {deviation:.6g}")
        lines.append(f"# colour_eigenvector: [{', '.join(f'{value:.6f}' for value in vector)}]")
    return "\n".join(lines) + "\n"
