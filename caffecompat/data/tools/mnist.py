"""Conversion of MNIST to databases.

Reads the idx files of MNIST and of data sets in the same format, also gzip-compressed. Source:
convert_mnist_data.cpp, convert_mnist_siamese_data.cpp.
"""

from __future__ import annotations

import gzip
import logging
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.backends.database import create_database, write_records
from caffecompat.data.backends.expected_size import log_expected_size
from caffecompat.data.counter_rng import draw, pick
from caffecompat.errors import DataError, FileProblem, FormatError
from caffecompat.input_files import ClaimedBytes, open_input
from caffecompat.proto import schema
from caffecompat.reporting.progress import Progress
from caffecompat.reporting.units import format_shape

log = logging.getLogger(__name__)

# The first four bytes: two zeros, the type (8: unsigned bytes), the number of axes.
_IMAGES, _LABELS = 0x00000803, 0x00000801
_NAMES = {_IMAGES: "images", _LABELS: "labels"}
_GZIP = b"\x1f\x8b"
_MAX_BYTES = 1 << 32

Bytes = NDArray[np.uint8]


def convert_mnist(
    images: str,
    labels: str,
    database: str,
    backend: str = "LMDB",
    progress: Progress | None = None,
    max_bytes: int | None = None,
) -> int:
    """Writes the images of an idx file with their labels to a new database.

    Keys are eight digits from 0 on, values Datums of 1 x height x width bytes.

    Args:
        images, labels: idx files, gzip-compressed or not.
        database: folder to create.
        backend: name of the backend.
        progress: called with (records done, total) during the work and at the end.
        max_bytes: the limit for the claimed size of each file; see :class:`ClaimedBytes`.

    Returns:
        the number of records.

    Raises:
        FileProblem, FormatError: a file cannot be read, or is not an idx file of that type.
        DataError: the numbers of images and labels differ.
    """
    pixels, numbers = _read_pair(images, labels, max_bytes)
    count = len(pixels)

    def records() -> Iterator[tuple[bytes, bytes]]:
        for item, (image, label) in enumerate(zip(pixels, numbers, strict=True)):
            yield b"%08d" % item, _datum(image[np.newaxis], int(label))

    return _write(database, backend, records(), pixels[0].size, count, progress)


def convert_mnist_siamese(
    images: str,
    labels: str,
    database: str,
    backend: str = "LEVELDB",
    seed: int = 0,
    progress: Progress | None = None,
    max_bytes: int | None = None,
) -> int:
    """Writes as many pairs of images as there are images; the label is 1 for two of one class.

    Both images of a pair are drawn at random, as in Caffe, but with ``seed``. Values are Datums of
    2 x height x width bytes. Arguments, result and errors as in :func:`convert_mnist`.
    """
    pixels, numbers = _read_pair(images, labels, max_bytes)
    count = len(pixels)
    first = pick(draw(seed, np.arange(count), "siamese pairs, first"), count)
    second = pick(draw(seed, np.arange(count), "siamese pairs, second"), count)

    def records() -> Iterator[tuple[bytes, bytes]]:
        for item, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            same = int(numbers[i] == numbers[j])
            yield b"%08d" % item, _datum(np.stack([pixels[i], pixels[j]]), same)

    return _write(database, backend, records(), 2 * pixels[0].size, count, progress)


def read_idx(path: str, kind: int, max_bytes: int | None = None) -> Bytes:
    """The array in an idx file of unsigned bytes.

    Args:
        path: the file, gzip-compressed or not.
        kind: the expected magic number, its first four bytes.
        max_bytes: as in :func:`convert_mnist`.

    Raises:
        FileProblem, FormatError: it cannot be read, is of another type, or is cut off.
    """
    with open_input(path, max_bytes or _MAX_BYTES) as file:
        claimed = ClaimedBytes(path, os.fstat(file.fileno()).st_size, max_bytes)
        packed = file.read(2) == _GZIP
        file.seek(0)
        if not packed:
            return _read_idx(file, path, kind, claimed)
        try:
            with gzip.open(file) as unpacked:
                return _read_idx(cast(BinaryIO, unpacked), path, kind, claimed)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FormatError(f"{path}: the gzip file is cut off or damaged: {error}") from error


def _read_idx(file: BinaryIO, path: str, kind: int, claimed: ClaimedBytes) -> Bytes:
    head = file.read(4)
    found = int.from_bytes(head, "big") if len(head) == 4 else -1
    if found != kind:
        other = _NAMES.get(found)
        what = f"this holds {other}" if other else "this is not an idx file of bytes"
        raise FormatError(
            f"{path}: {what}, expected {_NAMES[kind]}; the files are called "
            "train-images-idx3-ubyte and train-labels-idx1-ubyte, and images are given first"
        )
    axes = kind & 0xFF
    sizes = file.read(4 * axes)
    shape = struct.unpack(f">{axes}I", sizes) if len(sizes) == 4 * axes else (0,)
    wanted = math.prod(shape)
    claimed.add(wanted, f"an array of {format_shape(shape)}")
    data = file.read(wanted)
    if len(data) < wanted or not wanted:
        raise FormatError(
            f"{path}: the file is cut off: it has {len(data)} values of {wanted} "
            f"({format_shape(shape)}); get it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_pair(images: str, labels: str, max_bytes: int | None) -> tuple[Bytes, Bytes]:
    for path in (images, labels):
        if not os.path.exists(path) and os.path.exists(f"{path}.gz"):
            raise FileProblem(f"{path}: there is no such file; give {path}.gz")
    pixels = read_idx(images, _IMAGES, max_bytes)
    numbers = read_idx(labels, _LABELS, max_bytes)
    if len(pixels) != len(numbers):
        raise DataError(
            f"{labels}: it has {len(numbers):,} labels, but {images} has {len(pixels):,} images; "
            "give two files that belong together"
        )
    log.info("A total of %d items.", len(pixels))
    log.info("Rows: %d Cols: %d", *pixels.shape[1:])
    return pixels, numbers


def _datum(pixels: Bytes, label: int) -> bytes:
    datum = schema.new("Datum")
    datum.channels, datum.height, datum.width = pixels.shape
    datum.data = pixels.tobytes()
    datum.label = label
    return bytes(datum.SerializeToString())


def _write(
    database: str,
    backend: str,
    records: Iterator[tuple[bytes, bytes]],
    size: int,
    count: int,
    progress: Progress | None,
) -> int:
    log_expected_size(database, range(count), lambda _: size + 16)
    with create_database(database, backend) as writer:
        write_records(writer, records, count, progress)
    log.info("Processed %d files.", count)
    return count
