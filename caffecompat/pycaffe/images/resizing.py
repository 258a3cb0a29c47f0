"""Resizing of arrays with the numbers that pycaffe got from scikit-image and scipy.

pycaffe resizes images of one or three channels by ``skimage.transform.resize`` with
``mode="constant"``, and everything else by ``scipy.ndimage.zoom``. Both are linear maps along each
axis at orders 0 and 1, and are computed as such here, with numpy alone. Higher orders, splines, are
left to scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.errors import DataError, needing_extra

Floats = NDArray[np.floating[Any]]

# scipy cuts its Gaussian off at this many standard deviations.
_GAUSSIAN_TRUNCATE = 4.0
# Higher orders are splines.
_LARGEST_OWN_ORDER = 1


def resize_image(im: NDArray[Any], new_dims: ArrayLike, interp_order: int = 1) -> NDArray[Any]:
    """Resizes an image to height and width.

    Images of 1 or 3 channels get what scikit-image 0.19 to 0.26 give (pixels as areas, smoothed
    where the image shrinks, darkened at the edges where it grows), all others what scipy's zoom
    gives (pixels as points, not smoothed; whole numbers stay whole), both as in pycaffe. A constant
    image keeps its value.

    Args:
        im: height x width x channels.
        new_dims: (height, width).
        interp_order: 0 for the nearest pixel, 1 for linear, 2 to 5 for splines, which need scipy.

    Returns:
        float32.

    Raises:
        DataError: the image has not three axes, or the size is not positive.
        MissingExtra: the order is above 1 and scipy is not installed.
    """
    height, width = (int(extent) for extent in np.asarray(new_dims).ravel()[:2])
    if im.ndim != 3 or min(height, width) < 1 or not im.size:
        raise DataError(
            f"resize_image: an image of shape {im.shape} to {height} x {width}; expected height x "
            "width x channels and a positive size"
        )
    if im.shape[-1] not in (1, 3):
        zoomed = zoom_corners(im, height, width, interp_order)
        if np.issubdtype(im.dtype, np.integer):  # scipy's result has the type of the image
            zoomed = np.copysign(np.floor(np.abs(zoomed) + 0.5), zoomed)
        return zoomed.astype(np.float32, order="C")
    low, high = im.min(), im.max()
    if not high > low:
        return np.full((height, width, im.shape[-1]), low, dtype=np.float32)
    # Between 0 and 1 because what is outside the image counts as 0, which is then the darkest.
    resized = resize_centers((im - low) / (high - low), height, width, interp_order)
    if im.dtype == np.float32:
        resized = resized.astype(np.float32)
    return (resized * (high - low) + low).astype(np.float32, order="C")


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
    if order > _LARGEST_OWN_ORDER:
        return _resize_splines(image, height, width, order)
    smaller = _along(image, 0, _area_taps(image.shape[0], height, order))
    return _along(smaller, 1, _area_taps(image.shape[1], width, order))


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
    if order > _LARGEST_OWN_ORDER:
        factors = (height / image.shape[0], width / image.shape[1], 1)
        zoomed: Floats = _scipy_ndimage().zoom(image, factors, order=order)
        return zoomed
    higher = _along(image, 0, _point_taps(image.shape[0], height, order))
    return _along(higher, 1, _point_taps(image.shape[1], width, order))


@dataclass(frozen=True)
class _Taps:
    """Which values of a line each value of another line is a weighted sum of.

    Attributes:
        places: values of the new line x taps, indices into the old line.
        weights: of the same shape.
    """

    places: NDArray[np.intp]
    weights: Floats


def _along(image: Floats, axis: int, taps: _Taps) -> Floats:
    """The image with one of its axes resized."""
    lines = np.ascontiguousarray(np.moveaxis(image, axis, 0), dtype=np.float64)
    new = len(taps.places)
    result = np.zeros((new, *lines.shape[1:]))
    tapped = np.empty_like(result)
    for place, weight in zip(taps.places.T, taps.weights.T, strict=True):
        np.take(lines, place, axis=0, out=tapped, mode="clip")
        np.multiply(tapped, weight[:, None, None], out=tapped)
        result += tapped
    return np.moveaxis(result, 0, axis)


def _area_taps(extent: int, new: int, order: int) -> _Taps:
    positions = (np.arange(new) + 0.5) * (extent / new) - 0.5
    return _taps(positions, extent, order, _gaussian((extent / new - 1) / 2))


def _point_taps(extent: int, new: int, order: int) -> _Taps:
    step = (extent - 1) / (new - 1) if new > 1 else 0.0
    return _taps(np.arange(new) * step, extent, order, np.ones(1))


def _taps(positions: Floats, extent: int, order: int, smoothing: Floats) -> _Taps:
    """Reads a line of ``extent`` values, 0 outside, at positions, after it was smoothed."""
    lower = np.floor(positions + 0.5 if order == 0 else positions).astype(np.intp)
    part = positions - lower
    near = [np.ones(len(positions))] if order == 0 else [1 - part, part]
    width = len(smoothing)
    weights = np.zeros((len(positions), width + len(near) - 1))
    for offset, weight in enumerate(near):
        inside = (lower + offset >= 0) & (lower + offset < extent)
        weights[:, offset : offset + width] += np.outer(weight * inside, smoothing)
    places = lower[:, None] - width // 2 + np.arange(weights.shape[1])
    weights[(places < 0) | (places >= extent)] = 0
    return _Taps(np.clip(places, 0, extent - 1), weights)


def _gaussian(deviation: float) -> Floats:
    """The weights of a Gaussian filter; one weight if the deviation is not positive."""
    if deviation <= 0:
        return np.ones(1)
    radius = int(_GAUSSIAN_TRUNCATE * deviation + 0.5)
    weights = np.exp(-0.5 / deviation**2 * np.arange(-radius, radius + 1) ** 2)
    normalized: Floats = weights / weights.sum()
    return normalized


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
    with needing_extra("resizing with an interpolation order above 1", "matlab"):
        from scipy import ndimage
    return ndimage
