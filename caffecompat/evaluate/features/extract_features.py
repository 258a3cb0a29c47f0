"""Blobs of a net as databases or files of arrays: the work of Caffe's ``extract_features``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.data.backends.database import create_database
from caffecompat.data.unfinished_output import refuse_existing
from caffecompat.errors import SolverError
from caffecompat.evaluate.array_file import save_arrays
from caffecompat.net import Net
from caffecompat.output_files import check_target
from caffecompat.proto import schema
from caffecompat.reporting.progress import Progress

log = logging.getLogger("caffecompat")

WriteRows: TypeAlias = Callable[[NDArray[np.float32]], None]


# Files of one array, by the names of their backends.
ARRAY_BACKENDS = ("HDF5", "NPZ")
# As in Caffe, a line is logged for each thousand rows.
LOG_EVERY = 1000


def extract_features(
    net: Net,
    blobs: Sequence[str],
    targets: Sequence[str],
    batches: int,
    backend: str = "LMDB",
    progress: Progress | None = None,
) -> int:
    """Writes the rows of blobs, one database or file for each blob.

    A database gets Datums with ``float_data``. Keys are running numbers with ten digits. Records
    have no label. Their channels, height and width are those of the blob, 1 for axes that it does
    not have. Source: extract_features.cpp. A file of arrays gets one with the name and the axes of
    the blob, float32; its rows are kept in memory until the end.

    Args:
        net: in phase TEST, with data layers.
        blobs: names of blobs.
        targets: paths, as many as blobs; they must not exist.
        batches: how many batches to run.
        backend: ``"LMDB"``, ``"LEVELDB"``, ``"HDF5"`` or ``"NPZ"``.
        progress: called with the numbers of finished and of all batches.

    Returns:
        the number of rows of each blob.

    Raises:
        BlobError: the net has no such blob.
        SolverError: ``batches`` is not positive, or blobs and targets differ in number.
        FileProblem, DataError: a target exists already or cannot be written.
    """
    if batches < 1:
        raise SolverError(f"the number of batches is {batches}, it must be at least 1")
    if len(blobs) != len(targets):
        raise SolverError(
            f"{len(blobs)} blobs ({', '.join(blobs)}) but {len(targets)} databases "
            f"({', '.join(targets)}); name one for each blob, separated by commas"
        )
    for blob in blobs:
        # Raises for unknown names, before a database is made.
        net.blobs[blob]
    net.observe = True
    opened = _array_file if backend in ARRAY_BACKENDS else _database
    with ExitStack() as stack, torch.no_grad():
        writers = [
            stack.enter_context(opened(path, blob, backend))
            for path, blob in zip(targets, blobs, strict=True)
        ]
        return _write_batches(net, blobs, writers, batches, progress)


@contextmanager
def _database(path: str, blob: str, backend: str) -> Iterator[WriteRows]:
    """A function that writes rows to a new database."""
    count = 0

    def write(rows: NDArray[np.float32]) -> None:
        nonlocal count
        database.write(
            [
                (f"{number:010d}".encode(), feature_datum(row))
                for number, row in enumerate(rows, count)
            ]
        )
        count += len(rows)

    with create_database(path, backend) as database:
        yield write


@contextmanager
def _array_file(path: str, blob: str, backend: str) -> Iterator[WriteRows]:
    """A function that keeps rows, which are written to a new file at the end."""
    refuse_existing(path)
    check_target(path)
    kept: list[NDArray[np.float32]] = []
    yield kept.append
    save_arrays({blob: np.concatenate(kept)}, path, hdf5=backend == "HDF5")


def _write_batches(
    net: Net,
    blobs: Sequence[str],
    writers: Sequence[WriteRows],
    batches: int,
    progress: Progress | None,
) -> int:
    counts = [0] * len(blobs)
    for batch in range(batches):
        net.run(batch)
        for number, (blob, write) in enumerate(zip(blobs, writers, strict=True)):
            # A blob without axes, such as a loss, is one row.
            rows = np.atleast_1d(np.array(net.blobs[blob].data.float().cpu().numpy()))
            write(rows)
            counts[number] += len(rows)
            for written in range(counts[number] - len(rows) + 1, counts[number] + 1):
                if written % LOG_EVERY == 0:
                    _log_count(written, blob)
        if progress is not None:
            progress(batch + 1, batches)
    for blob, count in zip(blobs, counts, strict=True):
        _log_count(count, blob)
    return min(counts)


def _log_count(count: int, blob: str) -> None:
    log.info("Extracted features of %d query images for feature blob %s", count, blob)


def feature_datum(row: NDArray[np.float32]) -> bytes:
    """One row of a blob (channels [x height [x width]]) as the bytes of a Datum."""
    datum = schema.new("Datum")
    sizes = (*row.shape, 1, 1, 1)[:3]
    datum.channels, datum.height, datum.width = sizes
    datum.float_data.extend(row.ravel().tolist())
    return datum.SerializeToString()
