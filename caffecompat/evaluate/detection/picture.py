"""Pictures of images with the objects that were found in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from caffecompat.data.codec.images import Pixels, encode_image
from caffecompat.evaluate.detection.detections import Detections
from caffecompat.evaluate.images.box_drawing import above, canvas_of, caption, outline
from caffecompat.output_files import atomic_write

# B, G, R; classes take them in turn.
_COLOURS = (
    *((60, 60, 230), (50, 180, 50), (230, 130, 40), (40, 170, 240), (200, 60, 180)),
    *((190, 190, 50), (120, 100, 250), (90, 140, 90)),
)
# The thickness of a box, in pixels.
_LINE = 2


def draw_detections(pixels: Pixels, found: Detections, name: Callable[[int], str]) -> Pixels:
    """An image with boxes, and above each its class and score.

    Args:
        pixels: uint8, height x width x 3 (B, G, R) or height x width.
        found: the objects.
        name: the name of a class.

    Returns:
        uint8, height x width x 3.
    """
    drawn = canvas_of(pixels)
    # The best come last, above the others.
    for index in reversed(range(len(found))):
        label = int(found.labels[index])
        colour = _COLOURS[label % len(_COLOURS)]
        left, top = outline(drawn, found.boxes[index], colour, _LINE)
        caption(drawn, f"{name(label)} {found.scores[index]:.2f}", (left, above(top)), colour)
    return drawn


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
