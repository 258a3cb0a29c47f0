"""Computation of the mean image of a database.  Source of the semantics: compute_image_mean.cpp."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.backends.database import Database, open_database
from caffecompat.data.codec.annotated_datum import parse_record
from caffecompat.data.codec.datum import decode_datum
from caffecompat.data.transforms.colour_pca import ColourPCA, ColourSums
from caffecompat.errors import DataError, FileProblem
from caffecompat.output_files import check_writable
from caffecompat.reporting.progress import Progress
from caffecompat.reporting.units import format_shape
from caffecompat.weights.mean_file import write_mean

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_RECORDS_PER_LINE = 10000
_RECORDS_PER_STEP = 10


@dataclass(frozen=True)
class ImageMean:
    """The mean of a database.

    Attributes:
        image: the mean image, channels x height x width, float32.
        channels: one mean per channel, float32.
        records: number of records.
        colours: colour statistics, if they were requested.
    """

    image: Floats
    channels: Floats
    records: int
    colours: ColourPCA | None = None


def compute_image_mean(
    database: str,
    output: str | None = None,
    backend: str = "LMDB",
    progress: Progress | None = None,
    colours: bool = False,
) -> ImageMean:
    """Averages all records of a database, pixel by pixel.

    Records are summed in order in float32, as in Caffe; encoded records are decoded as stored.

    Args:
        database: path of the database.
        output: path of the binaryproto to write, in a folder that is created if it is missing;
            None to write no file.
        backend: name of the backend.
        progress: called with (records done, total) during the work and at the end.
        colours: whether to compute colour statistics in the same pass.

    Raises:
        FileProblem, FormatError: the database cannot be opened, or the mean cannot be written.
        DataError: a record cannot be used or has another size than the first, or there is none.
    """
    if output:
        _check_output(output)
    with open_database(database, backend) as records:
        log.info("Opened %s %s", backend.lower(), database)
        sums = ColourSums() if colours else None
        total = _sum(records, sums, progress)
        count = len(records)
    image = total / np.float32(count)
    if output:
        log.info("Write to %s", output)
        write_mean(image, output)
    # Sequential sums as in Caffe: the float32 sum of a plane depends on the order.
    planes = np.add.accumulate(image.reshape(len(image), -1), axis=1, dtype=np.float32)[:, -1]
    channels = planes / np.float32(image[0].size)
    log.info("Number of channels: %d", len(channels))
    for number, mean in enumerate(channels):
        log.info("mean_value channel [%d]: %.6g", number, mean)
    return ImageMean(image, channels, count, sums.finish() if sums else None)


def _check_output(output: str) -> None:
    """Makes the output's folder and tries it before the work, which may take hours."""
    folder = os.path.dirname(output)
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise FileProblem(f"{output}: cannot make a folder there: {error.strerror}") from error
    check_writable(output)


def compute_colours(
    database: str, backend: str = "LMDB", progress: Progress | None = None
) -> ColourPCA:
    """Computes mean colour and principal components of the colours of a database.

    Unlike in :func:`compute_image_mean`, images may have different sizes; all pixels have the same
    weight.

    Raises:
        FileProblem, FormatError: the database cannot be opened.
        DataError: a record cannot be used or does not have 3 channels, or there is none.
    """
    sums = ColourSums()
    with open_database(database, backend) as records:
        for position, pixels in _decoded(records, progress):
            with _located(records, position):
                sums.add(pixels)
        if not len(records):
            raise DataError(f"{database}: the database has no records, so they have no mean")
    return sums.finish()


def _sum(records: Database, sums: ColourSums | None, progress: Progress | None) -> Floats:
    total: Floats | None = None
    for position, pixels in _decoded(records, progress):
        with _located(records, position):
            if total is None:
                total = np.zeros(pixels.shape, np.float32)
            if pixels.shape != total.shape:
                raise DataError(_unequal(pixels.shape, total.shape))
            if sums is not None:
                sums.add(pixels)
        total += pixels
    if total is None:
        raise DataError(f"{records.path}: the database has no records, so they have no mean")
    return total


def _decoded(records: Database, progress: Progress | None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yields position and pixels of each record, and logs Caffe's lines."""
    for position in range(len(records)):
        with _located(records, position):
            datum = parse_record(records.read(position)[1])[0]
            pixels = decode_datum(datum)
        if position == 0:
            if datum.encoded:
                log.info("Decoding Datum")
            log.info("Starting iteration")
        yield position, pixels
        done = position + 1
        if done % _RECORDS_PER_LINE == 0 or done == len(records):
            log.info("Processed %d files.", done)
        if progress and (done % _RECORDS_PER_STEP == 0 or done == len(records)):
            progress(done, len(records))


@contextmanager
def _located(records: Database, position: int) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        key = records.read(position)[0].decode(errors="replace")
        raise DataError(f"{records.path}: record {position} (key {key!r}): {error}") from error


def _unequal(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return (
        f"it is {format_shape(found)} (channels x height x width), the first record is "
        f"{format_shape(expected)}; convert the images with --resize_width and "
        "--resize_height"
    )
