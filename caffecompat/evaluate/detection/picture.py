"""Pictures of images with the objects that were found in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from caffecompat.data.codec.images import Pixels, draw_text, encode_image
from caffecompat.evaluate.detection.detections import Detections
from caffecompat.output_files import atomic_write

# B, G, R; classes take them in turn.
_COLOURS = (
    *((60, 60, 230), (50, 180, 50), (230, 130, 40), (40, 170, 240), (200, 60, 180)),
    *((190, 190, 50), (120, 100, 250), (90, 140, 90)),
)
# The height of a caption, the width of a character, and of a line, in pixels.
_CAPTION, _CHARACTER, _LINE = 14, 8, 2


def draw_detections(pixels: Pixels, found: Detections, name: Callable[[int], str]) -> Pixels:
    """An image with boxes, and above each its class and score.

    Args:
        pixels: uint8, height x width x 3 (B, G, R) or height x width.
        found: the objects.
        name: the name of a class.

    Returns:
        uint8, height x width x 3.
    """
    drawn = np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels.copy()
    # The best come last, above the others.
    for index in reversed(range(len(found))):
        label = int(found.labels[index])
        colour = _COLOURS[label % len(_COLOURS)]
        left, top = _outline(drawn, found.boxes[index], colour)
        caption = f"{name(label)} {found.scores[index]:.2f}"
        plain = caption.encode("ascii", "replace").decode()
        top = max(0, top - _CAPTION)
        drawn[top : top + _CAPTION, left : left + _CHARACTER * len(plain)] = colour
        draw_text(drawn, plain, left + 2, top + _CAPTION - 4)
    return drawn


def _outline(pixels: Pixels, box: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int]:
    """Draws the edges of a box; returns its left and top pixel."""
    height, width = pixels.shape[:2]
    first = np.clip(np.round(box[:2]), 0, (width - 1, height - 1)).astype(int)
    last = np.clip(np.round(box[2:]) - 1, first, (width - 1, height - 1)).astype(int)
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    inner = np.s_[top + _LINE : bottom + 1 - _LINE, left + _LINE : right + 1 - _LINE]
    kept = pixels[inner].copy()
    pixels[top : bottom + 1, left : right + 1] = colour
    pixels[inner] = kept
    return left, top


def write_picture(pixels: Pixels, path: str) -> Path:
    """Writes a PNG or JPEG, by the suffix of ``path``.

    Raises:
        DataError: the suffix is not one of an image.
        FileProblem: the file cannot be written.
    """
    encoded = encode_image(pixels, Path(path).suffix.removeprefix(".").lower() or "png")
    with atomic_write(path) as file:
        file.write(encoded)
    return Path(path)
