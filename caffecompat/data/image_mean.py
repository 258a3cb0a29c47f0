"""The mean image of a database.  Source of the semantics: compute_image_mean.cpp."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.database import Database, open_database
from caffecompat.data.datum import decode_datum, parse_datum
from caffecompat.errors import DataError
from caffecompat.weights.mean import write_mean

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Floats = NDArray[np.float32]

_RECORDS_PER_LINE = 10000


@dataclass(frozen=True)
class ImageMean:
    """``image`` is channels x height x width, ``channels`` one mean per channel; float32."""

    image: Floats
    channels: Floats
    records: int


def compute_image_mean(
    database: str,
    output: str | None = None,
    backend: str = "LMDB",
    progress: Progress | None = None,
) -> ImageMean:
    """Average all records of a database, pixel by pixel.

    Sums are float32, one record after the other, as in Caffe; encoded records are decoded as
    they are stored.

    Args:
        database: path of the database.
        output: where to write the mean as a binaryproto; nowhere if None.
        backend: kind of database.
        progress: called with (records done, records in all) now and then, and at the end.

    Raises:
        FileProblem, FormatError: the database cannot be opened, or the mean cannot be written.
        DataError: a record cannot be used or has another size than the first, or there is none.
    """
    with open_database(database, backend) as records:
        log.info("Opened %s %s", backend.lower(), database)
        total = _sum(records, progress)
        count = len(records)
    image = total / np.float32(count)
    if output:
        log.info("Write to %s", output)
        write_mean(image, output)
    # Added up one by one, as the sum of a plane in float32 depends on the order.
    sums = np.add.accumulate(image.reshape(len(image), -1), axis=1, dtype=np.float32)[:, -1]
    channels = sums / np.float32(image[0].size)
    log.info("Number of channels: %d", len(channels))
    for number, mean in enumerate(channels):
        log.info("mean_value channel [%d]: %.6g", number, mean)
    return ImageMean(image, channels, count)


def _sum(records: Database, progress: Progress | None) -> Floats:
    total: Floats | None = None
    for position in range(len(records)):
        key, value = records.read(position)
        try:
            datum = parse_datum(value)
            pixels = decode_datum(datum)
            if total is None:
                if datum.encoded:
                    log.info("Decoding Datum")
                log.info("Starting iteration")
                total = np.zeros(pixels.shape, np.float32)
            if pixels.shape != total.shape:
                raise DataError(_unequal(pixels.shape, total.shape))
        except DataError as error:
            place = f"{records.path}: record {position} (key {key.decode(errors='replace')!r})"
            raise DataError(f"{place}: {error}") from error
        total += pixels
        done = position + 1
        if done % _RECORDS_PER_LINE == 0 or done == len(records):
            log.info("Processed %d files.", done)
            if progress:
                progress(done, len(records))
    if total is None:
        raise DataError(f"{records.path}: the database has no records, so they have no mean")
    return total


def _unequal(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return (
        f"it is {'x'.join(map(str, found))} (channels x height x width), the first record is "
        f"{'x'.join(map(str, expected))}; convert the images with --resize_width and "
        "--resize_height"
    )
