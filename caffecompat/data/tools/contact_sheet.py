"""Contact sheets: one image that shows many images in a grid with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import (
    Pixels,
    draw_text,
    encode_image,
    isotropic_size,
    rescale_image,
)

_MARGIN = 4
_TEXT_HEIGHT = 16
_PAPER = 255
_LETTER_WIDTH = 8


def contact_sheet(
    images: Sequence[NDArray[Any]],
    captions: Sequence[str],
    columns: int = 8,
    cell: int = 128,
    encoding: str = "png",
) -> bytes:
    """An encoded image of all images in a grid, row by row, each above its caption.

    Args:
        images: channels x height x width each, B, G, R, of any sizes. uint8 is not scaled. For
            other types the smallest value in all images becomes black, the largest white.
        captions: one per image, truncated to its width; ``?`` replaces non-ASCII letters.
        columns: images per row.
        cell: longest side of an image on the sheet, in pixels.
        encoding: ``png`` or ``jpg``.
    """
    shown = _displayable(images)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    step_x, step_y = cell + _MARGIN, cell + _TEXT_HEIGHT + _MARGIN
    sheet = np.full((rows * step_y + _MARGIN, columns * step_x + _MARGIN, 3), _PAPER, np.uint8)
    for number, (image, caption) in enumerate(zip(shown, captions, strict=True)):
        top = _MARGIN + number // columns * step_y
        left = _MARGIN + number % columns * step_x
        small = _fit(image, cell)
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        draw_text(sheet, _short(caption, cell), left, top + cell + _TEXT_HEIGHT - 4)
    return encode_image(sheet, encoding)


def _short(caption: str, width: int) -> str:
    plain = caption.encode("ascii", "replace").decode()
    letters = max(1, width // _LETTER_WIDTH)
    return plain if len(plain) <= letters else f"{plain[: letters - 2]}.."


def value_range(images: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """The smallest and the largest finite value of all images."""
    values = [image[np.isfinite(image)] for image in images]
    values = [part for part in values if part.size]
    if not values:
        return 0.0, 0.0
    return float(min(part.min() for part in values)), float(max(part.max() for part in values))


def _displayable(images: Sequence[NDArray[Any]]) -> list[Pixels]:
    """The images as height x width x 3 uint8."""
    low, high = value_range(images)
    scale = 255 / (high - low) if high > low else 0.0
    return [
        _colour(
            image
            if image.dtype == np.uint8
            else np.nan_to_num((image.astype(np.float32) - low) * scale).clip(0, 255)
        )
        for image in images
    ]


def _colour(image: NDArray[Any]) -> Pixels:
    channels = len(image)
    if channels not in (3, 4):
        image = np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    return np.ascontiguousarray(image[:3].transpose(1, 2, 0)).astype(np.uint8)


def _fit(image: Pixels, cell: int) -> Pixels:
    height, width = image.shape[:2]
    if max(height, width) > cell:
        side = max(1, round(min(height, width) * cell / max(height, width)))
        height, width = isotropic_size(height, width, side)
        return rescale_image(image, min(height, cell), min(width, cell))
    # Small images are enlarged by a whole factor, which keeps their pixels visible.
    times = cell // max(height, width)
    return image.repeat(times, axis=0).repeat(times, axis=1)
