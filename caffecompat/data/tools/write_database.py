"""Writing of databases from Python: arrays or image files, and their labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.backends.database import create_database, in_commits
from caffecompat.errors import DataError
from caffecompat.proto import schema


def write_database(
    path: str | os.PathLike[str],
    records: Iterable[tuple[NDArray[Any] | bytes, int]],
    backend: str = "LMDB",
) -> int:
    """Writes records to a new database, which appears when all records are written.

    Keys are eight digits from 0 on.

    Args:
        path: the folder to create; missing folders above it are created, too.
        records: pairs of an image and its label, taken one by one. An image is an array
            (channels, height, width) or the bytes of an image file. Arrays of uint8 are stored as
            pixels (colours in B, G, R order), other numbers as float32.
        backend: ``LMDB`` or ``LEVELDB``.

    Returns:
        the number of records.

    Raises:
        FileProblem: ``path`` exists or cannot be written.
        DataError: a record is not such a pair; the message has its number.
    """
    count = 0
    with create_database(path, backend) as writer:
        for commit in in_commits(_serialised(records, os.fspath(path))):
            writer.write(commit)
            count += len(commit)
    return count


def _serialised(
    records: Iterable[tuple[NDArray[Any] | bytes, int]], path: str
) -> Iterator[tuple[bytes, bytes]]:
    for number, record in enumerate(records):
        try:
            image, label = record
            datum = schema.new("Datum")
            datum.label = int(label)
            if isinstance(image, bytes):
                datum.data, datum.encoded = image, True
            else:
                _fill(datum, np.asarray(image))
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{path}: record {number}: {error}; expected an image and its label"
            ) from error
        yield b"%08d" % number, datum.SerializeToString()


def _fill(datum: Any, array: NDArray[Any]) -> None:
    if array.ndim != 3 or not array.size:
        raise ValueError(
            f"the array has the shape {array.shape}, expected channels, height and width"
        )
    datum.channels, datum.height, datum.width = array.shape
    if array.dtype == np.uint8:
        datum.data = array.tobytes()
    elif array.dtype.kind in "biuf":
        datum.float_data.extend(array.astype(np.float32).ravel().tolist())
    else:
        raise ValueError(f"the array is of {array.dtype}, expected numbers")
