"""Pictures of images with their true and their predicted boxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from caffecompat.data.codec.images import Pixels, encode_image
from caffecompat.errors import FileProblem
from caffecompat.evaluate.images.box_drawing import canvas_of, caption, outline
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImages
from caffecompat.evaluate.localisation.box_predictions import to_corners
from caffecompat.evaluate.localisation.localisation_error import Prediction, Truth
from caffecompat.evaluate.localisation.localised_images import LocalisedImages
from caffecompat.output_files import atomic_write

# B, G, R.
TRUE_COLOUR = (0, 200, 0)
PREDICTED_COLOUR = (0, 0, 255)
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
    drawn = canvas_of(pixels)
    height, width = drawn.shape[:2]
    sides = (width, height, width, height)
    for box in truth.boxes:
        outline(drawn, to_corners(box) * sides, TRUE_COLOUR)
    for label, box in zip(prediction.classes, prediction.boxes, strict=True):
        place = outline(drawn, to_corners(box) * sides, PREDICTED_COLOUR)
        name = names[label] if label < len(names) else str(label)
        caption(drawn, name, place, PREDICTED_COLOUR)
    return drawn


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
