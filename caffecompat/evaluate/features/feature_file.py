"""The HDF5 file with the descriptors of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError
from caffecompat.evaluate.array_file import text_array, texts_of
from caffecompat.weights.hdf5_input.hdf5_file import create_hdf5, open_hdf5

FEATURES, LABELS, NAMES, CLASSES = "features", "labels", "names", "classes"
NO_LABEL = -1


@dataclass(frozen=True)
class FeatureSet:
    """Descriptors of images.

    Attributes:
        features: float32, images x length.
        labels: int64, one class per image, -1 without a label; or images x classes for images of
            several classes: 1 for its classes, -1 for the others, 0 for those that do not count.
        names: of the images; empty if they are not known.
        classes: the names of the classes of several labels; empty if they are not known.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def save_features(found: FeatureSet, path: str) -> None:
    """Writes the data sets ``features``, ``labels``, ``names`` and ``classes`` atomically.

    Raises:
        FileProblem: the file cannot be written.
    """
    with create_hdf5(Path(path)) as content:
        content[FEATURES] = found.features
        content[LABELS] = found.labels
        for key, texts in ((NAMES, found.names), (CLASSES, found.classes)):
            if texts:
                content[key] = text_array(texts)


def normalized(descriptor: NDArray[np.float32]) -> NDArray[np.float32]:
    """A descriptor divided by its Euclidean norm; zeros stay zeros."""
    norm = np.linalg.norm(descriptor)
    return descriptor / norm if norm > 0 else descriptor


def stacked(first: FeatureSet, second: FeatureSet, path: str, normalize: bool = True) -> FeatureSet:
    """The descriptors of two nets in one row, the first net's before the second's.

    Args:
        path: the file of one of them, for the message.
        normalize: divide each row by its Euclidean norm.

    Raises:
        DataError: the sets are not of the same images.
    """
    if first.names != second.names or not np.array_equal(first.labels, second.labels):
        raise DataError(
            f"{path}: its images and labels are not those of the other net: the two have "
            f"{len(first.features)} and {len(second.features)} rows; compute both from the same "
            "images"
        )
    rows = np.concatenate([first.features, second.features], 1)
    if normalize:
        rows = np.stack([normalized(row) for row in rows])
    return FeatureSet(rows, second.labels, second.names, second.classes)


def load_features(path: str, max_bytes: int | None = None) -> FeatureSet:
    """Reads what :func:`save_features`, or another program, has written.

    Raises:
        FileProblem, FormatError: the file is missing or damaged, or holds too much.
        DataError: a data set is missing, or their shapes do not fit.
    """
    with open_hdf5(Path(path), max_bytes) as file:
        for name in (FEATURES, LABELS):
            if name not in file:
                raise DataError(
                    f"{path}: there is no data set {name!r}; expected features (images x length) "
                    "and labels, as caffecompat features writes them"
                )
        features = file.read(FEATURES).astype(np.float32)
        labels = file.read(LABELS).astype(np.int64)
        names, classes = (
            texts_of(file.read(key, "S")) if key in file else () for key in (NAMES, CLASSES)
        )
    if features.ndim != 2 or labels.ndim not in (1, 2) or len(labels) != len(features):
        raise DataError(
            f"{path}: features of shape {features.shape} and labels of shape {labels.shape} do "
            "not belong together; expected images x length, and images or images x classes"
        )
    if not np.isfinite(features).all():
        raise DataError(f"{path}: there are features that are not finite numbers")
    if classes and labels.shape[1:] != (len(classes),):
        raise DataError(
            f"{path}: it names {len(classes)} classes, but its labels have the shape "
            f"{labels.shape}, expected one column for each class"
        )
    return FeatureSet(features, labels, names, classes)
