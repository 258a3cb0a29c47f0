"""Operations on the pixels of images for augmentation: levels, colours, sizes, borders, noise.

All take and return uint8, height x width x channels (B, G, R), and leave their arguments alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffecompat.data.codec.images import Pixels, opencv

_HUE, _SATURATION = 0, 1
_LEVELS = 256


def map_levels(pixels: Pixels, factor: float = 1.0, shift: float = 0.0) -> Pixels:
    """Each level times ``factor`` plus ``shift``, rounded and limited to 0 to 255."""
    return _look_up(pixels, _scaled_levels(factor, shift))


def scale_saturation(pixels: Pixels, factor: float) -> Pixels:
    """The saturation of each pixel of a colour image times ``factor``, limited to 255."""
    return _change_hsv(pixels, _SATURATION, _scaled_levels(factor, 0.0))


def shift_hue(pixels: Pixels, shift: float) -> Pixels:
    """The hue of each pixel of a colour image plus ``shift``, in units of 2 degrees."""
    return _change_hsv(pixels, _HUE, _scaled_levels(1.0, shift))


def resize_by(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    """Resizes to ``height`` x ``width``.

    Args:
        interpolation: LINEAR, AREA, NEAREST, CUBIC or LANCZOS4.
    """
    cv2 = opencv()
    method = getattr(cv2, f"INTER_{interpolation}")
    return _with_channels(cv2.resize(pixels, (width, height), interpolation=method))


def pad_border(
    pixels: Pixels, rows: tuple[int, int], columns: tuple[int, int], mode: str, value: Any
) -> Pixels:
    """Adds rows above and below, and columns left and right.

    Args:
        mode: CONSTANT, MIRRORED (without the edge) or REPEAT_NEAREST.
        value: of a constant border, one number for each channel.
    """
    cv2 = opencv()
    kinds = {
        "CONSTANT": cv2.BORDER_CONSTANT,
        "MIRRORED": cv2.BORDER_REFLECT101,
        "REPEAT_NEAREST": cv2.BORDER_REPLICATE,
    }
    border = (*rows, *columns)
    return _with_channels(cv2.copyMakeBorder(pixels, *border, kinds[mode], value=value))


def turn(pixels: Pixels, angle: float, interpolation: str, border: int) -> Pixels:
    """The image turned counter-clockwise by ``angle`` degrees, as large as its bounding box.

    Args:
        pixels: height x width, or height x width x channels.
        interpolation: LINEAR or NEAREST.
        border: the level outside of the image.
    """
    cv2 = opencv()
    height, width = pixels.shape[:2]
    centre = (width / 2, height / 2)
    matrix = cv2.getRotationMatrix2D(centre, angle, 1.0)
    corners = cv2.boxPoints((centre, (width, height), angle))
    low, high = np.floor(corners.min(0)), np.ceil(corners.max(0))
    size = (high - low + 1).astype(int)
    matrix[:, 2] += size / 2 - centre
    method = getattr(cv2, f"INTER_{interpolation}")
    found: Pixels = cv2.warpAffine(
        pixels, matrix, tuple(size.tolist()), flags=method, borderValue=[border] * 4
    )
    return found


def blur_by(pixels: Pixels, size: int, kind: int) -> Pixels:
    """Smooths with a filter of an odd size.

    Args:
        kind: 0, Gaussian; 1, mean; 2, median; 3, mean over twice the size.
    """
    cv2 = opencv()
    filters = (
        lambda: cv2.GaussianBlur(pixels, (size, size), 0),
        lambda: cv2.blur(pixels, (size, size)),
        lambda: cv2.medianBlur(pixels, size),
        lambda: cv2.boxFilter(pixels, -1, (2 * size, 2 * size)),
    )
    found: Pixels = filters[kind]()
    return found


def remove_colour(pixels: Pixels) -> Pixels:
    """A colour image in gray, with three equal channels."""
    cv2 = opencv()
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return _with_channels(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))


def blur(pixels: Pixels) -> Pixels:
    """A Gaussian of 7 x 7 pixels with a standard deviation of 1.5 pixels."""
    return _with_channels(opencv().GaussianBlur(pixels, (7, 7), 1.5))


def equalize(pixels: Pixels) -> Pixels:
    """The brightness with an even histogram."""
    return _change_brightness(pixels, opencv().equalizeHist)


def equalize_locally(pixels: Pixels) -> Pixels:
    """The brightness with an even histogram in each of 8 x 8 tiles, its contrast limited to 4."""
    return _change_brightness(pixels, opencv().createCLAHE(clipLimit=4).apply)


def compress(pixels: Pixels, quality: int) -> Pixels:
    """The image after it was a JPEG of that quality, in colour."""
    cv2 = opencv()
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return _with_channels(cv2.imdecode(data, cv2.IMREAD_COLOR))


def erode(pixels: Pixels) -> Pixels:
    """The darkest value of each pixel and its four neighbours."""
    cv2 = opencv()
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3), (1, 1))
    return _with_channels(cv2.erode(pixels, shape))


def posterize(pixels: Pixels) -> Pixels:
    """The middles of four ranges of 64 levels."""
    return _look_up(pixels, np.arange(_LEVELS) // 64 * 64 + 32)


def to_hsv(pixels: Pixels) -> Pixels:
    """Hue, saturation and value of a colour image."""
    cv2 = opencv()
    return _with_channels(cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV))


def _scaled_levels(factor: float, shift: float) -> Any:
    levels = np.arange(_LEVELS, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return np.rint(levels).clip(0, _LEVELS - 1)


def _look_up(pixels: Pixels, levels: Any) -> Pixels:
    return _with_channels(opencv().LUT(pixels, levels.astype(np.uint8)))


def _change_hsv(pixels: Pixels, channel: int, levels: Any) -> Pixels:
    cv2 = opencv()
    planes = list(cv2.split(cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)))
    planes[channel] = cv2.LUT(planes[channel], levels.astype(np.uint8))
    return _with_channels(cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2BGR))


def _change_brightness(pixels: Pixels, change: Any) -> Pixels:
    cv2 = opencv()
    if pixels.shape[2] == 1:
        return _with_channels(change(pixels[..., 0]))
    planes: Sequence[Pixels] = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_BGR2YCrCb))
    merged = cv2.merge([change(planes[0]), *planes[1:]])
    return _with_channels(cv2.cvtColor(merged, cv2.COLOR_YCrCb2BGR))


def _with_channels(pixels: Any) -> Pixels:
    """OpenCV drops the axis of a single channel."""
    found: Pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return found
