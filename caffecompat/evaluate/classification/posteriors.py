"""Class posteriors of a set of images, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError, FormatError
from caffecompat.evaluate.array_file import (
    json_array,
    json_of,
    load_arrays,
    save_arrays,
    text_array,
    texts_of,
)
from caffecompat.output_files import PathLike
from caffecompat.weights.encodings.zip_checks import library_errors

NO_LABEL = -1
_ARRAYS = ("names", "indices", "labels", "posteriors", "settings")


@dataclass(frozen=True)
class Posteriors:
    """The class posteriors of a set of images.

    Attributes:
        names: of the images.
        indices: int64, their places in the data, from 0 on; images that were left out are missing.
        labels: int64; -1 where an image has none.
        values: float32, images x classes; each row sums to 1.
        settings: how they were computed, as JSON values.
    """

    names: tuple[str, ...]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    values: NDArray[np.float32]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which images have a label."""
        return self.labels != NO_LABEL


def best_classes(values: NDArray[np.float32], most: int) -> list[tuple[int, float]]:
    """The classes with the greatest values and these values, the greatest first.

    Of equal values the lower class comes first.

    Args:
        values: one for each class.
        most: the number of classes, if there are so many.
    """
    order = (-values).argsort(kind="stable")[:most]
    return [(int(label), float(values[label])) for label in order]


def average(members: Sequence[Posteriors]) -> Posteriors:
    """The mean of the posteriors of several nets or protocols (VGG paper, Sect. 4.4).

    Args:
        members: of the same images, in the same order; at least one.

    Raises:
        DataError: images, labels or numbers of classes differ.
    """
    first = members[0]
    for number, other in enumerate(members[1:], 2):
        if other.names != first.names or not np.array_equal(other.labels, first.labels):
            raise DataError(
                f"member {number} of the ensemble has {len(other.names)} images, which are not "
                f"the {len(first.names)} of member 1; evaluate all members on the same data"
            )
        if other.values.shape != first.values.shape:
            raise DataError(
                f"member {number} of the ensemble has {other.values.shape[1]} classes, member 1 "
                f"has {first.values.shape[1]}; average nets of the same classes"
            )
    total = sum((member.values.astype(np.float64) for member in members[1:]), first.values * 1.0)
    settings = {"average of": [member.settings for member in members]}
    values = (total / len(members)).astype(np.float32)
    return Posteriors(first.names, first.indices, first.labels, values, settings)


def save(posteriors: Posteriors, path: PathLike) -> None:
    """Writes names, indices, labels, posteriors and settings (JSON), atomically.

    Args:
        path: an .npz, or an HDF5 file if the name ends in .h5 or .hdf5.

    Raises:
        FileProblem: the file cannot be written.
    """
    values = (
        text_array(posteriors.names),
        posteriors.indices,
        posteriors.labels,
        posteriors.values,
        json_array(posteriors.settings),
    )
    save_arrays(dict(zip(_ARRAYS, values, strict=True)), path)


def load(path: PathLike, max_bytes: int | None = None) -> Posteriors:
    """Reads what :func:`save` has written.

    Raises:
        FileProblem: the file is missing or not readable.
        FormatError: it is damaged, holds something else, or claims more than ``max_bytes``.
    """
    content = "class posteriors, as caffecompat evaluate --output writes them"
    found = load_arrays(path, _ARRAYS, content, max_bytes)
    with library_errors(Path(path), "a file of class posteriors"):
        names, settings = texts_of(found["names"]), json_of(found["settings"])
    numbers = (found["indices"], found["labels"], found["posteriors"])
    return _checked(Posteriors(names, *numbers, settings), Path(path))


def _checked(found: Posteriors, path: Path) -> Posteriors:
    count = len(found.names)
    values = found.values
    columns = (found.labels, found.indices)
    fit = all(column.shape == (count,) and column.dtype == np.int64 for column in columns)
    if not fit or values.ndim != 2 or len(values) != count or values.dtype != np.float32:
        raise FormatError(
            f"{path}: {count} names, labels of shape {found.labels.shape} and posteriors of shape "
            f"{values.shape} do not belong together"
        )
    if count and (found.labels.min() < NO_LABEL or found.labels.max() >= values.shape[1]):
        raise FormatError(
            f"{path}: labels go from {found.labels.min()} to {found.labels.max()}, but there are "
            f"{values.shape[1]} classes"
        )
    return found
