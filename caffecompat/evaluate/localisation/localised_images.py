"""The boxes predicted for a set of images, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.evaluate.array_file import (
    json_array,
    json_of,
    load_arrays,
    save_arrays,
    text_array,
    texts_of,
)
from caffecompat.evaluate.localisation.localisation_error import (
    Prediction,
    Truth,
    localisation_error,
)
from caffecompat.output_files import PathLike
from caffecompat.weights.encodings.zip_checks import library_errors

# Predictions: images x classes, and images x classes x 4. Truth: a class and a number of boxes for
# each image, and the boxes of all images in one array.
_NUMBERS = ("indices", "classes", "boxes", "labels", "true_counts", "true_boxes")
_ARRAYS = ("names", *_NUMBERS, "settings")
_AXES = {"boxes": 3, "classes": 2, "true_boxes": 2}


@dataclass(frozen=True)
class LocalisedImages:
    """The predictions for a set of images.

    Attributes:
        names: of the images.
        indices: their places in the list; images that were left out are missing.
        predictions, truths: one per image; all predictions have the same number of classes.
        settings: how they were made, as JSON values.
    """

    names: tuple[str, ...]
    indices: tuple[int, ...]
    predictions: tuple[Prediction, ...]
    truths: tuple[Truth, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """The share of images without a right prediction, 0 to 1."""
        return localisation_error(self.predictions, self.truths)

    @property
    def class_error(self) -> float:
        """The share of images whose class is not among the predicted ones, 0 to 1."""
        pairs = list(zip(self.predictions, self.truths, strict=True))
        return sum(truth.label not in found.classes for found, truth in pairs) / len(pairs)


def joined(parts: Sequence[LocalisedImages], settings: dict[str, Any]) -> LocalisedImages:
    """The images of all parts, in the order of their places in the list."""
    rows = sorted(
        (
            row
            for part in parts
            for row in zip(part.indices, part.names, part.predictions, part.truths, strict=True)
        ),
        key=lambda row: row[0],
    )
    return LocalisedImages(
        tuple(row[1] for row in rows),
        tuple(row[0] for row in rows),
        tuple(row[2] for row in rows),
        tuple(row[3] for row in rows),
        settings,
    )


def save(found: LocalisedImages, path: PathLike) -> None:
    """Writes names, predicted and true classes and boxes, and settings (JSON), atomically.

    Args:
        path: an .npz, or an HDF5 file if the name ends in .h5 or .hdf5.

    Raises:
        FileProblem: the file cannot be written.
    """
    count = len(found.names)
    predictions, truths = found.predictions, found.truths
    boxes = np.array([one.boxes for one in predictions], np.float64)
    arrays = {
        "names": text_array(found.names),
        "indices": np.array(found.indices, np.int64),
        "classes": np.array([one.classes for one in predictions], np.int64).reshape(count, -1),
        "boxes": boxes if count else np.zeros((0, 0, 4)),
        "labels": np.array([one.label for one in truths], np.int64),
        "true_counts": np.array([len(one.boxes) for one in truths], np.int64),
        "true_boxes": np.concatenate([np.zeros((0, 4)), *(one.boxes for one in truths)]),
        "settings": json_array(found.settings),
    }
    save_arrays(arrays, path)


def load(path: PathLike, max_bytes: int | None = None) -> LocalisedImages:
    """Reads what :func:`save` has written.

    Raises:
        FileProblem: the file is missing or not readable.
        FormatError: it is damaged, holds something else, or claims more than ``max_bytes``.
    """
    content = "boxes, as caffecompat localise --output writes them"
    found = load_arrays(path, _ARRAYS, content, max_bytes)
    with library_errors(Path(path), "a file of boxes"):
        names, settings = texts_of(found["names"]), json_of(found["settings"])
    numbers = {key: found[key] for key in _NUMBERS}
    count, counts = len(names), numbers["true_counts"]
    fit = (
        all(array.ndim == _AXES.get(key, 1) for key, array in numbers.items())
        and all(len(numbers[key]) == count for key in _NUMBERS[:-1])
        and numbers["boxes"].shape == (*numbers["classes"].shape, 4)
        and bool((counts > 0).all())
        and numbers["true_boxes"].shape == (counts.sum(), 4)
    )
    if not fit:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in numbers.items())
        raise FormatError(f"{path}: {count} names and {shapes} do not belong together")
    ends = np.cumsum(counts)[:-1]
    predictions = [
        Prediction(tuple(classes), boxes)
        for classes, boxes in zip(numbers["classes"].tolist(), numbers["boxes"], strict=True)
    ]
    true_boxes = np.split(numbers["true_boxes"], ends) if count else []
    truths = [
        Truth(label, boxes)
        for label, boxes in zip(numbers["labels"].tolist(), true_boxes, strict=True)
    ]
    indices = tuple(numbers["indices"].tolist())
    return LocalisedImages(names, indices, tuple(predictions), tuple(truths), settings)
