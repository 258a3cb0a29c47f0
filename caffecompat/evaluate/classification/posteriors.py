"""Class posteriors of a set of images, and the file that keeps them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError, FormatError
from caffecompat.input_files import open_input
from caffecompat.output_files import PathLike, atomic_write
from caffecompat.weights.zip_checks import library_errors, zip_archive

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
                f"has {first.values.shape[1]}"
            )
    total = sum((member.values.astype(np.float64) for member in members[1:]), first.values * 1.0)
    settings = {"average of": [member.settings for member in members]}
    values = (total / len(members)).astype(np.float32)
    return Posteriors(first.names, first.indices, first.labels, values, settings)


def save(posteriors: Posteriors, path: PathLike) -> None:
    """Writes an .npz, atomically: names, indices, labels, posteriors and settings (JSON).

    Raises:
        FileProblem: the file cannot be written.
    """
    arrays = {
        "names": np.array([name.encode("utf-8", "surrogateescape") for name in posteriors.names]),
        "indices": posteriors.indices,
        "labels": posteriors.labels,
        "posteriors": posteriors.values,
        "settings": np.array(json.dumps(posteriors.settings, sort_keys=True).encode()),
    }
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A fixed date, so that equal posteriors give equal files.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(path: PathLike, max_bytes: int | None = None) -> Posteriors:
    """Reads what :func:`save` has written.

    Raises:
        FileProblem: the file is missing or not readable.
        FormatError: it is damaged, holds something else, or claims more than ``max_bytes``.
    """
    name = Path(path)
    with (
        open_input(name, max_bytes) as source,
        library_errors(name, "an .npz"),
        zip_archive(name, source, max_bytes) as archive,
    ):
        missing = {f"{key}.npy" for key in _ARRAYS} - set(archive.namelist())
        if missing:
            raise FormatError(
                f"{path}: this .npz holds no class posteriors, as caffecompat evaluate --output "
                f"writes them: it has no {', '.join(sorted(missing))}"
            )
        arrays = {}
        for key in _ARRAYS:
            with archive.open(f"{key}.npy") as member:
                arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
        settings = json.loads(bytes(arrays["settings"][()]))
        names = tuple(item.decode("utf-8", "surrogateescape") for item in arrays["names"].tolist())
    numbers = (arrays["indices"], arrays["labels"], arrays["posteriors"])
    return _checked(Posteriors(names, *numbers, settings), name)


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
