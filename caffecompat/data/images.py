"""Encoded images to arrays and back: the one place that knows OpenCV."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import CaffeError, DataError

Pixels = NDArray[np.uint8]
Colour = Literal["unchanged", "color", "gray"]


def decode_image(data: bytes, colour: Colour) -> NDArray[Any] | None:
    """The pixels of an encoded image, or None if the bytes are none that can be decoded.

    Args:
        data: the bytes of a JPEG, PNG, ... file.
        colour: ``color`` always gives 3 channels, ``gray`` always one, both of 8 bit;
            ``unchanged`` keeps what is stored: 1, 3 or 4 channels, 8 or 16 bit.

    Returns:
        height x width (one channel) or height x width x channels in B, G, R (, alpha) order.
    """
    cv2 = _opencv()
    flags = {
        "unchanged": cv2.IMREAD_UNCHANGED,
        "color": cv2.IMREAD_COLOR,
        "gray": cv2.IMREAD_GRAYSCALE,
    }
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags[colour])
    except cv2.error:
        return None


def encode_image(pixels: Pixels, encoding: str) -> bytes:
    """Pixels as the bytes of an image file.

    Args:
        pixels: height x width [x 3], B, G, R.
        encoding: a file extension without its dot: ``png``, ``jpg``, ...

    Raises:
        DataError: there is no encoder of that name.
    """
    cv2 = _opencv()
    try:
        done, encoded = cv2.imencode(f".{encoding}", pixels)
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"images cannot be encoded as {encoding!r}; use png or jpg")
    return bytes(encoded)


def resize_image(pixels: Pixels, width: int, height: int) -> Pixels:
    """Bilinear resize to height x width, without smoothing, as Caffe does it."""
    return _opencv().resize(pixels, (width, height))


@functools.cache
def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise CaffeError(
            f"OpenCV, which decodes images, cannot be loaded ({error}); on a machine without "
            "libGL run: pip install --force-reinstall opencv-python-headless"
        ) from error
    return cv2
