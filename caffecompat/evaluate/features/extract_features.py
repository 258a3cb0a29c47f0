"""Blobs of a net's data as databases: the work of Caffe's ``extract_features``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.data.backends.database import DatabaseWriter, create_database
from caffecompat.errors import SolverError
from caffecompat.net import Net
from caffecompat.proto import schema
from caffecompat.reporting.progress import Progress

log = logging.getLogger("caffecompat")


def extract_features(
    net: Net,
    blobs: Sequence[str],
    databases: Sequence[str],
    batches: int,
    backend: str = "LMDB",
    progress: Progress | None = None,
) -> int:
    """Writes the rows of blobs as Datums with ``float_data``, one database for each blob.

    Keys are running numbers with ten digits. Records have no label. Their channels, height and
    width are those of the blob, 1 for axes that it does not have. Source: extract_features.cpp.

    Args:
        net: in phase TEST, with data layers.
        blobs: names of blobs.
        databases: paths, as many as blobs; they must not exist.
        batches: how many batches to run.
        backend: ``"LMDB"`` or ``"LEVELDB"``.
        progress: called with the numbers of finished and of all batches.

    Returns:
        the number of records in each database.

    Raises:
        BlobError: the net has no such blob.
        SolverError: ``batches`` is not positive, or blobs and databases differ in number.
        FileProblem, DataError: a database exists already or cannot be written.
    """
    if batches < 1:
        raise SolverError(f"the number of batches is {batches}, it must be at least 1")
    if len(blobs) != len(databases):
        raise SolverError(
            f"{len(blobs)} blobs ({', '.join(blobs)}) but {len(databases)} databases "
            f"({', '.join(databases)}); name one for each blob, separated by commas"
        )
    for blob in blobs:
        # Raises for unknown names, before a database is made.
        net.blobs[blob]
    net.observe = True
    with ExitStack() as stack, torch.no_grad():
        writers = [stack.enter_context(create_database(path, backend)) for path in databases]
        return _write_batches(net, blobs, writers, batches, progress)


def _write_batches(
    net: Net,
    blobs: Sequence[str],
    writers: Sequence[DatabaseWriter],
    batches: int,
    progress: Progress | None,
) -> int:
    counts = [0] * len(blobs)
    for batch in range(batches):
        net.run(batch)
        for number, (blob, writer) in enumerate(zip(blobs, writers, strict=True)):
            rows = net.blobs[blob].data.float().cpu().numpy()
            writer.write(
                [
                    (f"{counts[number] + index:010d}".encode(), feature_datum(row))
                    for index, row in enumerate(rows)
                ]
            )
            counts[number] += len(rows)
        if progress is not None:
            progress(batch + 1, batches)
    for blob, count in zip(blobs, counts, strict=True):
        log.info("Extracted features of %d query images for feature blob %s", count, blob)
    return min(counts)


def feature_datum(row: NDArray[np.float32]) -> bytes:
    """One row of a blob (channels [x height [x width]]) as the bytes of a Datum."""
    datum = schema.new("Datum")
    sizes = (*row.shape, 1, 1, 1)[:3]
    datum.channels, datum.height, datum.width = sizes
    datum.float_data.extend(row.ravel().tolist())
    return datum.SerializeToString()
