"""Pictures of images with their true and their predicted boxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffecompat.data.codec.images import Pixels, draw_text, encode_image
from caffecompat.errors import FileProblem
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImages
from caffecompat.evaluate.localisation.box_predictions import to_corners
from caffecompat.evaluate.localisation.localisation_error import Prediction, Truth
from caffecompat.evaluate.localisation.localised_images import LocalisedImages
from caffecompat.output_files import atomic_write

# B, G, R.
TRUE_COLOUR = (0, 200, 0)
PREDICTED_COLOUR = (0, 0, 255)
# The height of a caption and the width of a character, in pixels.
_LINE, _CHARACTER = 14, 8
# In characters of up to four bytes: a file's name has at most 255 bytes.
_LONGEST_STEM = 60


def picture(
    pixels: Pixels, prediction: Prediction, truth: Truth, names: Sequence[str] = ()
) -> Pixels:
    """An image with the true boxes in green and the predicted ones in red, with their classes.

    Args:
        pixels: uint8, height x width x 3 (B, G, R) or height x width.
        names: of the classes; empty for their numbers.

    Returns:
        uint8, height x width x 3; boxes are clipped to the image.
    """
    drawn = np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels.copy()
    for box in truth.boxes:
        _outline(drawn, box, TRUE_COLOUR)
    for label, box in zip(prediction.classes, prediction.boxes, strict=True):
        left, top = _outline(drawn, box, PREDICTED_COLOUR)
        caption = names[label] if label < len(names) else str(label)
        plain = caption.encode("ascii", "replace").decode()
        drawn[top : top + _LINE, left : left + _CHARACTER * len(plain)] = PREDICTED_COLOUR
        draw_text(drawn, plain, left + 2, top + _LINE - 4)
    return drawn


def _outline(pixels: Pixels, box: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int]:
    """Draws the edge pixels of a box; returns its left and top pixel."""
    height, width = pixels.shape[:2]
    edges = to_corners(box) * (width, height, width, height)
    first = np.clip(np.round(edges[:2]), 0, (width - 1, height - 1)).astype(int)
    last = np.clip(np.round(edges[2:]) - 1, first, (width - 1, height - 1)).astype(int)
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    pixels[[top, bottom], left : right + 1] = colour
    pixels[top : bottom + 1, [left, right]] = colour
    return left, top


def draw_pictures(
    folder: str, images: AnnotatedImages, found: LocalisedImages, names: Sequence[str] = ()
) -> int:
    """Writes a PNG for each image into a folder, which is made if it is missing.

    A picture is named after the image's line in the list and its file: ``000012-cat.png``.

    Returns:
        the number of pictures.

    Raises:
        FileProblem: the folder or a file cannot be written.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise FileProblem(f"{folder}: the folder cannot be made: {error.strerror}") from error
    for index, prediction, truth in zip(
        found.indices, found.predictions, found.truths, strict=True
    ):
        image = images.read(index)
        drawn = picture(image.pixels, prediction, truth, names)
        stem = Path(image.name).stem[:_LONGEST_STEM]
        with atomic_write(Path(folder) / f"{index + 1:06}-{stem}.png") as file:
            file.write(encode_image(drawn, "png"))
    return len(found.indices)
