"""The reader of the HDF5Data layer: batches of rows of HDF5 files.  Source: hdf5_data_layer.cpp."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.counter_rng import permutation
from caffecompat.data.read_options import DEFAULTS, ReadOptions
from caffecompat.errors import DataError, FileProblem
from caffecompat.input_files import (
    CLAIM_ALLOWANCE,
    CLAIM_FACTOR,
    MEBIBYTE,
    elsewhere,
    folder_with,
    read_input,
)
from caffecompat.weights.hdf5_input.hdf5_file import HDF5File, open_hdf5

Floats = NDArray[np.float32]

_NUMERIC = "fiub"
_MAX_SHOWN_NAMES = 10
# The memory that the rows of a small file may take: masks and labels compress well.
_MIN_LIMIT = 512 * MEBIBYTE
_REMEDY = (
    "if you trust the file, write it without compression (h5repack -f NONE old.h5 new.h5) or "
    "divide its rows among several files"
)


class HDF5Reader:
    """Batches by index, of rows from the HDF5 files in a list.

    Batches run through the rows of all files in order; the first row follows the last, also within
    a batch. All numeric types become float32. One file at a time is held in memory.

    With ``shuffle`` the order of the files, and of the rows within each file, changes in each epoch
    (one pass over all rows); both orders depend only on (seed, epoch).

    Args:
        source: text file with the names of the files, separated by white space.
        tops: names of the data sets, one per top; all need the same number of rows in a file.
        batch_size: rows per batch, of all ranks together.
        shuffle: whether to shuffle.
        options: the seed of the shuffling, the shard to read, the largest list.

    Raises:
        FileProblem: the list or one of its files cannot be opened.
        FormatError: one of the files is not an HDF5 file.
        DataError: the list is empty, a data set is missing or not numeric, row counts differ,
            rows of different files have different numbers of values, or the batch has fewer rows
            than there are ranks.
    """

    def __init__(
        self,
        source: str,
        tops: Sequence[str],
        batch_size: int,
        shuffle: bool = False,
        options: ReadOptions = DEFAULTS,
    ) -> None:
        if batch_size < 1:
            raise DataError(f"{source}: batch_size is {batch_size}, expected 1 or more")
        self._source = source
        self._tops = list(tops)
        self._batch_size = batch_size
        self._shard = options.shard.rows(batch_size, source)
        self._shuffle = shuffle
        self._seed = options.seed
        self._files = _listed_files(source, options.max_bytes)
        self._row_shapes: list[tuple[int, ...]] = []
        self._counts = np.array([self._inspect(path) for path in self._files])
        if self._counts.sum() == 0:
            raise DataError(f"{source}: its files have no rows")
        self._orders: dict[str, NDArray[np.int64]] = {}
        self._loaded: tuple[str, list[Floats]] = ("", [])

    @property
    def records(self) -> int:
        """Number of rows of all files together."""
        return int(self._counts.sum())

    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each top, with the rows of this rank as first extent."""
        return [(len(self._shard), *shape) for shape in self._row_shapes]

    def batch(self, index: int) -> list[Floats]:
        """This rank's shard of batch ``index`` (0, 1, ...): one float32 array per top.

        The arrays belong to the caller.

        Raises:
            FileProblem, FormatError: a file was removed or changed after the reader was created.
        """
        batch = [np.empty(shape, np.float32) for shape in self.shapes()]
        first = index * self._batch_size + self._shard.start
        row, count = 0, len(self._shard)
        while row < count:
            file, rows = self._run(first + row, count - row)
            for top, values in zip(batch, self._load(file), strict=True):
                top[row : row + len(rows)] = values[rows]
            row += len(rows)
        return batch

    def _run(self, ordinal: int, limit: int) -> tuple[int, NDArray[np.int64]]:
        """The file of row ``ordinal`` of the run, and up to ``limit`` rows from it on."""
        epoch, offset = divmod(ordinal, int(self._counts.sum()))
        files = self._order(len(self._files), f"files of epoch {epoch}")
        ends = np.cumsum(self._counts[files])
        place = int(np.searchsorted(ends, offset, side="right"))
        file = int(files[place])
        count = int(self._counts[file])
        first = offset - int(ends[place]) + count
        rows = self._order(count, f"rows of file {file} in epoch {epoch}")
        return file, rows[first : first + limit]

    def _order(self, count: int, purpose: str) -> NDArray[np.int64]:
        if not self._shuffle:
            return np.arange(count)
        if purpose not in self._orders:
            # Successive batches mostly need the same orders.
            self._orders = dict(list(self._orders.items())[-3:])
            self._orders[purpose] = permutation(self._seed, count, f"hdf5 {purpose}")
        return self._orders[purpose]

    def _inspect(self, path: str) -> int:
        """Checks one file against the tops; returns its number of rows."""
        with self._open(path) as file:
            shapes = [self._shape(file, path, top) for top in self._tops]
        counts = {shape[0] for shape in shapes}
        if len(counts) > 1:
            found = ", ".join(
                f"{top} has {shape[0]}" for top, shape in zip(self._tops, shapes, strict=True)
            )
            raise DataError(f"{path}: data sets have different numbers of rows: {found}")
        row_shapes = [shape[1:] for shape in shapes]
        self._row_shapes = self._row_shapes or row_shapes
        for top, expected, shape in zip(self._tops, self._row_shapes, row_shapes, strict=True):
            # As in Caffe, a row of another shape with the same number of values is accepted.
            if np.prod(expected, dtype=int) != np.prod(shape, dtype=int):
                raise DataError(
                    f"{path}: a row of {top!r} has the shape {shape}, but {expected} in "
                    f"{self._files[0]}; give all files of {self._source} rows of one size"
                )
        return counts.pop()

    def _shape(self, file: HDF5File, path: str, top: str) -> tuple[int, ...]:
        found = file.describe(top)
        if found is None:
            names = sorted(file.members())
            more = ", ..." if len(names) > _MAX_SHOWN_NAMES else ""
            raise DataError(
                f"{path}: no data set {top!r}, which a top needs; it has "
                f"{', '.join(names[:_MAX_SHOWN_NAMES]) or 'none at all'}{more}"
            )
        if found.kind not in _NUMERIC or not found.shape:
            raise DataError(
                f"{path}: data set {top!r} is {found.dtype} with {len(found.shape or ())} axes, "
                "expected numbers with rows along the first axis"
            )
        file.check(top)
        return found.shape

    def _load(self, file: int) -> list[Floats]:
        path = self._files[file]
        if self._loaded[0] != path:
            self._loaded = ("", [])  # releases the memory before the next file is read
            with self._open(path) as content:
                rows = [
                    np.asarray(content.read(top, _NUMERIC), np.float32).reshape(-1, *shape)
                    for top, shape in zip(self._tops, self._row_shapes, strict=True)
                ]
            self._loaded = (path, rows)
        return self._loaded[1]

    def _open(self, path: str) -> AbstractContextManager[HDF5File]:
        if not os.path.exists(path):
            there = elsewhere(folder_with(path, self._source))
            raise FileProblem(
                f"{path}: there is no such file (from {Path.cwd()}{there}); {self._source} names "
                "it, where a blank ends a name, as in Caffe"
            )
        claimed = CLAIM_FACTOR * os.path.getsize(path) + CLAIM_ALLOWANCE
        return open_hdf5(Path(path), max(claimed, _MIN_LIMIT), _REMEDY)


def _listed_files(source: str, max_bytes: int | None) -> list[str]:
    try:
        names = read_input(source, max_bytes).split()
    except FileProblem as error:
        raise FileProblem(f"{error}; it should be the list of HDF5 files") from error
    if not names:
        raise DataError(f"{source}: the list is empty; it needs at least one HDF5 file name")
    return [os.fsdecode(name) for name in names]
