"""Resizing of arrays with the numbers that pycaffe got from scikit-image and scipy.

pycaffe resizes images of one or three channels by ``skimage.transform.resize`` with
``mode="constant"``, and everything else by ``scipy.ndimage.zoom``. Both are linear maps along each
axis at orders 0 and 1, and are computed as such here, with numpy alone. Higher orders, splines, are
left to scipy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import MissingExtra

Floats = NDArray[np.floating[Any]]

# scipy cuts its Gaussian off at this many standard deviations.
_GAUSSIAN_TRUNCATE = 4.0
# skimage.transform.resize keeps to orders of splines that scipy has.
_LARGEST_MATRIX_ORDER = 1


def resize_centers(image: Floats, height: int, width: int, order: int) -> Floats:
    """``skimage.transform.resize(image, (height, width), order=order, mode="constant")``.

    Pixels are areas: the centre of output pixel i lies at (i + 0.5) * scale - 0.5. Outside the
    image everything is 0, so that an enlarged image darkens at its edges. An axis that shrinks is
    smoothed first by a Gaussian of standard deviation (scale - 1) / 2, as in scikit-image from 0.15
    on; older versions do not smooth. The tests compare with 0.19 (recorded) and 0.26.

    Args:
        image: height x width x channels.
        height, width: of the result, in pixels.
        order: 0 for the nearest pixel, 1 for linear interpolation, 2 to 5 for splines.

    Returns:
        ``height`` x ``width`` x channels, as float64.

    Raises:
        MissingExtra: the order is above 1 and scipy is not installed.
    """
    if order > _LARGEST_MATRIX_ORDER:
        return _resize_splines(image, height, width, order)
    rows = _sample_centers(image.shape[0], height, order) @ _gaussian(image.shape[0], height)
    columns = _sample_centers(image.shape[1], width, order) @ _gaussian(image.shape[1], width)
    return _along_both_axes(image, rows, columns)


def zoom_corners(image: Floats, height: int, width: int, order: int) -> Floats:
    """``scipy.ndimage.zoom`` of height and width of an image.

    Pixels are points: the first and the last pixel of each axis keep their values. Nothing is
    smoothed.

    Args:
        image: height x width x channels, any number of them.
        height, width, order: as in :func:`resize_centers`.

    Returns:
        ``height`` x ``width`` x channels, as float64.

    Raises:
        MissingExtra: the order is above 1 and scipy is not installed.
    """
    if order > _LARGEST_MATRIX_ORDER:
        factors = (height / image.shape[0], width / image.shape[1], 1)
        zoomed: Floats = _scipy_ndimage().zoom(image, factors, order=order)
        return zoomed
    rows = _sample(_corner_positions(image.shape[0], height), image.shape[0], order)
    columns = _sample(_corner_positions(image.shape[1], width), image.shape[1], order)
    return _along_both_axes(image, rows, columns)


def _along_both_axes(image: Floats, rows: Floats, columns: Floats) -> Floats:
    """The image with a matrix applied to its height and another to its width."""
    height, width, channels = image.shape
    values = rows @ image.astype(np.float64).reshape(height, width * channels)
    across = values.reshape(len(rows), width, channels)
    result: Floats = np.matmul(columns, across)
    return result


def _sample_centers(extent: int, new: int, order: int) -> Floats:
    positions = (np.arange(new) + 0.5) * (extent / new) - 0.5
    return _sample(positions, extent, order)


def _corner_positions(extent: int, new: int) -> Floats:
    if new == 1:
        return np.zeros(1)
    return np.arange(new) * ((extent - 1) / (new - 1))


def _sample(positions: Floats, extent: int, order: int) -> Floats:
    """The matrix that reads a line of ``extent`` values, 0 outside, at the given positions."""
    if order == 0:
        lower = np.floor(positions + 0.5).astype(int)
        weights = [(lower, np.ones(len(positions)))]
    else:
        lower = np.floor(positions).astype(int)
        part = positions - lower
        weights = [(lower, 1 - part), (lower + 1, part)]
    matrix = np.zeros((len(positions), extent))
    for index, weight in weights:
        inside = (index >= 0) & (index < extent)
        matrix[np.flatnonzero(inside), index[inside]] += weight[inside]
    return matrix


def _gaussian(extent: int, new: int) -> Floats:
    """The matrix that smooths a line of ``extent`` values, 0 outside, before it shrinks."""
    deviation = (extent / new - 1) / 2
    if deviation <= 0:
        return np.eye(extent)
    radius = int(_GAUSSIAN_TRUNCATE * deviation + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / deviation**2 * offsets**2)
    weights /= weights.sum()
    distance = np.arange(extent)[:, None] - np.arange(extent)[None, :] + radius
    inside = (distance >= 0) & (distance <= 2 * radius)
    return np.where(inside, weights[np.clip(distance, 0, 2 * radius)], 0.0)


def _resize_splines(image: Floats, height: int, width: int, order: int) -> Floats:
    ndimage = _scipy_ndimage()
    scales = np.array([image.shape[0] / height, image.shape[1] / width, 1.0])
    smooth = image.astype(np.float64)
    if (scales > 1).any():
        deviations = np.maximum(0, (scales - 1) / 2)
        smooth = ndimage.gaussian_filter(smooth, deviations, mode="grid-constant")
    zoomed = ndimage.zoom(smooth, 1 / scales, order=order, mode="grid-constant", grid_mode=True)
    # Splines overshoot; scikit-image keeps to the range of the image.
    result: Floats = np.clip(zoomed, image.min(), image.max())
    return result


def _scipy_ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise MissingExtra("resizing with an interpolation order above 1", "matlab") from error
    return ndimage
