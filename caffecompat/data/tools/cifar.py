"""Conversion of CIFAR-10 and CIFAR-100 to databases.  Source: convert_cifar_data.cpp."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.backends.database import create_database, write_records
from caffecompat.data.unfinished_output import refuse_existing
from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import read_input
from caffecompat.proto import schema
from caffecompat.reporting.progress import Progress

log = logging.getLogger(__name__)

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Cifar:
    """A data set: its name, its files, and the number of label bytes before each image."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: int


CIFAR10 = Cifar(
    "cifar10", tuple(f"data_batch_{n}.bin" for n in range(1, 6)), ("test_batch.bin",), 1
)
# A coarse label, then a fine one.
CIFAR100 = Cifar("cifar100", ("train.bin",), ("test.bin",), 2)


def convert_cifar(
    folder: str,
    target: str,
    kind: Cifar = CIFAR10,
    backend: str = "lmdb",
    coarse: bool = False,
    progress: Progress | None = None,
    max_bytes: int | None = None,
) -> tuple[int, int]:
    """Writes the training and the test images to two new databases, in the order of the files.

    They are ``target``/cifar10_train_lmdb and ``target``/cifar10_test_lmdb, with the names of
    ``kind`` and ``backend``, and appear at the end. Keys are five digits from 0 on, values Datums
    of 3 x 32 x 32 bytes in the order of the files (R, G, B).

    Args:
        folder: folder of the binary files.
        target: folder of the databases; created if it is missing.
        kind: the data set.
        backend: ``lmdb`` or ``leveldb``.
        coarse: use the 20 coarse labels of CIFAR-100 instead of the 100 fine ones.
        progress: called with (records done, total) during the work and at the end.
        max_bytes: the largest accepted size of a file; None for 512 MiB.

    Returns:
        the numbers of training and test records.

    Raises:
        FileProblem: a file cannot be read, or a database exists or cannot be written.
        FormatError: a file is cut off or of another type.
    """
    column = 0 if coarse or kind.labels == 1 else 1
    parts = {"train": kind.train, "test": kind.test}
    targets = [os.path.join(target, f"{kind.name}_{part}_{backend.lower()}") for part in parts]
    for path in targets:
        refuse_existing(path)
    files = [[_read(folder, name, kind, max_bytes) for name in names] for names in parts.values()]
    counts = [sum(map(len, rows)) for rows in files]
    with ExitStack() as stack:
        writers = [stack.enter_context(create_database(path, backend)) for path in targets]
        done = 0
        for part, rows, writer in zip(("Training", "Testing"), files, writers, strict=True):
            log.info("Writing %s data", part)
            records = _records(rows, kind.labels, column)
            done = write_records(writer, records, sum(counts), progress, done)
    return counts[0], counts[1]


def _records(files: Sequence[Bytes], labels: int, column: int) -> Iterator[tuple[bytes, bytes]]:
    datum = schema.new("Datum")
    datum.channels, datum.height, datum.width = 3, _SIDE, _SIDE
    number = 0
    for rows in files:
        for row in rows:
            datum.label = int(row[column])
            datum.data = row[labels:].tobytes()
            yield b"%05d" % number, datum.SerializeToString()
            number += 1


def _read(folder: str, name: str, kind: Cifar, max_bytes: int | None) -> Bytes:
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise FileProblem(f"{path}: there is no such file; {_why_absent(folder, name)}")
    data = np.frombuffer(read_input(path, max_bytes), np.uint8)
    size = kind.labels + _PIXELS
    if not data.size or data.size % size:
        raise FormatError(
            f"{path}: its {data.size:,} bytes are not a multiple of the record size of {size:,} "
            f"bytes; it is cut off, or not the binary version of {kind.name}"
        )
    return data.reshape(-1, size)


def _why_absent(folder: str, name: str) -> str:
    if os.path.isfile(folder):
        return f"{folder} is a file; unpack it and give the folder: tar xzf {folder}"
    if os.path.exists(os.path.join(folder, name.removesuffix(".bin"))):
        return "the folder holds the Python version of the data set; get the binary version"
    for inner in ("cifar-10-batches-bin", "cifar-100-binary"):
        if os.path.exists(os.path.join(folder, inner, name)):
            return f"did you mean {os.path.join(folder, inner)} ?"
    return f"{folder} must hold the binary version of the data set, unpacked"
