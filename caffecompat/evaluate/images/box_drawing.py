"""Boxes and captions drawn into an image."""

from __future__ import annotations

import numpy as np

from caffecompat.data.codec.images import Pixels, draw_text

Colour = tuple[int, int, int]

# The height of a caption and the width of a character, in pixels.
_CAPTION, _CHARACTER = 14, 8


def canvas_of(pixels: Pixels) -> Pixels:
    """A copy to draw on.

    Args:
        pixels: uint8, height x width x 3 (B, G, R) or height x width.

    Returns:
        uint8, height x width x 3.
    """
    return np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels.copy()


def outline(canvas: Pixels, box: np.ndarray, colour: Colour, line: int = 1) -> tuple[int, int]:
    """Draws the edges of a box, clipped to the image; returns its left and top pixel.

    Args:
        canvas: height x width x 3.
        box: left, top, right and bottom in pixels.
        colour: B, G, R.
        line: the thickness, inside the box.
    """
    height, width = canvas.shape[:2]
    first = np.clip(np.round(box[:2]), 0, (width - 1, height - 1)).astype(int)
    last = np.clip(np.round(box[2:]) - 1, first, (width - 1, height - 1)).astype(int)
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    inner = np.s_[top + line : bottom + 1 - line, left + line : right + 1 - line]
    kept = canvas[inner].copy()
    canvas[top : bottom + 1, left : right + 1] = colour
    canvas[inner] = kept
    return left, top


def caption(canvas: Pixels, text: str, place: tuple[int, int], colour: Colour) -> None:
    """Writes a text on a ground of one colour.

    Args:
        canvas: height x width x 3.
        text: characters that are not ASCII become question marks.
        place: the left and the top pixel.
        colour: of the ground, B, G, R.
    """
    left, top = place
    plain = text.encode("ascii", "replace").decode()
    canvas[top : top + _CAPTION, left : left + _CHARACTER * len(plain)] = colour
    draw_text(canvas, plain, left + 2, top + _CAPTION - 4)


def above(top: int) -> int:
    """The top of a caption that ends where a box begins, as far as there is room."""
    return max(0, top - _CAPTION)
