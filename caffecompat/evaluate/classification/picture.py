"""A picture of an image beside a bar chart of its most likely classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffecompat.data.codec.images import (
    draw_text,
    encode_image,
    read_pixels,
    rescale_image,
)
from caffecompat.errors import DataError
from caffecompat.output_files import atomic_write
from caffecompat.reporting.terminal import shorten

_IMAGE_HEIGHT = 300
_LARGEST_WIDTH = 2400
_CHART_WIDTH = 420
_ROW = 40
_BAR = 14
_MARGIN = 12
_LONGEST_NAME = 50
_BAR_COLOUR = (180, 119, 31)  # B, G, R


def draw_classes(image: str, classes: Sequence[tuple[str, float]], path: str) -> Path:
    """Draws an image and its classes, and writes a PNG or JPEG, by the suffix of ``path``.

    Args:
        image: path of the image.
        classes: names and probabilities, the most likely one first.
        path: the file to write.

    Raises:
        DataError: the image cannot be read, or the suffix is not one of an image.
        FileProblem: the file cannot be written.
    """
    try:
        pixels = read_pixels(os.fsencode(image), "color")
    except DataError as error:
        raise DataError(f"{image}: {error}") from error
    height, width = pixels.shape[:2]
    # A row of pixels would become millions wide.
    shown_width = min(max(1, width * _IMAGE_HEIGHT // height), _LARGEST_WIDTH)
    small = rescale_image(pixels, _IMAGE_HEIGHT, shown_width)
    rows = max(_IMAGE_HEIGHT, _ROW * len(classes) + 2 * _MARGIN)
    canvas = np.full((rows, small.shape[1] + _CHART_WIDTH, 3), 255, np.uint8)
    canvas[:_IMAGE_HEIGHT, : small.shape[1]] = small
    left = small.shape[1] + _MARGIN
    longest = _CHART_WIDTH - 2 * _MARGIN
    for place, (name, value) in enumerate(classes):
        top = _MARGIN + place * _ROW
        text = f"{shorten(name, _LONGEST_NAME)}  {value:.3f}"
        draw_text(canvas, text.encode("ascii", "replace").decode(), left, top + _BAR)
        canvas[top + _BAR + 4 : top + 2 * _BAR + 4, left : left + round(value * longest)] = (
            _BAR_COLOUR
        )
    suffix = Path(path).suffix.removeprefix(".").lower()
    encoded = encode_image(canvas, suffix or "png")
    with atomic_write(path) as file:
        file.write(encoded)
    return Path(path)
