"""One batch of a run: which samples, in which shape, with which chance."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from caffecompat.data.shard import shard
from caffecompat.data.sources.base import Record, Samples, Stored
from caffecompat.data.transforms.deferred_crops import Crops
from caffecompat.data.transforms.transform import Choice, Transform
from caffecompat.errors import DataError

Floats = NDArray[np.float32]

# Beyond that many in a row it is no longer a record that is corrupt but the data set.
_MOST_CORRUPT_IN_A_ROW = 1000
_MOST_BLOCKS = 16


@dataclass(frozen=True)
class Batch:
    """Transformed records, N of them; with ranks the rows of one rank.

    Attributes:
        blob: N x channels x height x width, float32 or what makes it.
        labels: N, float32.
        skipped: the row and a sentence for each corrupt record that was passed over for it.
    """

    blob: Floats | Crops
    labels: Floats
    skipped: tuple[tuple[int, str], ...] = ()

    @property
    def data(self) -> Floats:
        """The blob in float32."""
        return self.blob.floats() if isinstance(self.blob, Crops) else self.blob


@dataclass(frozen=True)
class Draft:
    """A batch whose records are read and whose rows are still to be filled.

    ``first`` is the decoded first record, which had to be looked at for the batch's shape.
    ``skips`` collects (row, sentence) of corrupt records, from all threads, and ``others`` rows
    with records that do not consist of bytes where ``data`` does.
    """

    data: NDArray[Any]
    labels: Floats
    first: Record
    records: list[Stored]
    choices: list[Choice]
    skips: list[tuple[int, str]] = field(default_factory=list)
    others: list[tuple[int, Record]] = field(default_factory=list)


class Memory:
    """Arrays of batches that nobody holds any more, to be used again.

    Fresh memory comes from the kernel page by page, which costs about as much as filling it, and
    more with several threads. Use it from one thread.
    """

    def __init__(self) -> None:
        self._blocks: list[NDArray[Any]] = []

    def array(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """An array with any content; it is the caller's until the last view of it is gone."""
        size, dtype = math.prod(shape), np.dtype(dtype)
        for place in range(len(self._blocks)):
            fits = self._blocks[place].size == size and self._blocks[place].dtype == dtype
            if fits and _references(self._blocks, place) == _ALONE:
                return self._blocks[place].reshape(shape)
        block = np.empty(size, dtype)
        alike = [other for other in self._blocks if (other.size, other.dtype) == (size, dtype)]
        self._blocks = [*alike[1 - _MOST_BLOCKS :], block]
        return block.reshape(shape)


def _references(blocks: list[NDArray[Any]], place: int) -> int:
    return sys.getrefcount(blocks[place])


# What is counted for an array that only a list holds; every view of it counts one more.
_ALONE = _references([np.empty(0, np.float32)], 0)


class BatchMaker:
    """Makes any batch of a run from its index alone.

    Sample ``s = index * batch_size + row`` is what ``samples`` gives for ``s``, so batches run
    over the end of a database into its beginning. The first record of a batch decides the shape
    of that batch. Chance depends on ``(seed, s)`` only.

    Of ``ranks`` makers each gives its slice of every batch, a batch of its own as far as shapes go:
    ``batch_size`` is that of the whole batch, ``rows`` the number of rows of this maker's slice.

    With ``skip_corrupt`` the next good record stands in for one that cannot be read or decoded.
    Which one that is depends on the data alone.

    Attributes:
        bytes_wanted: leave the arithmetic of the next batches to who takes them, where it can wait.

    Raises:
        DataError: the batch size is not positive, or there is no such rank.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Transform,
        batch_size: int,
        seed: int,
        skip_corrupt: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch_size < 1:
            raise DataError(f"{samples.path}: batch_size is {batch_size}, expected 1 or more")
        self.samples = samples
        self.transform = transform
        self.batch_size = batch_size
        self._slice = shard(batch_size, rank, ranks, samples.path)
        self.rows = len(self._slice)
        self.seed = seed
        self.skip_corrupt = skip_corrupt
        self.bytes_wanted = False
        self._memory = Memory()

    def shape(self, index: int) -> tuple[int, int, int, int]:
        """The shape of this rank's data of batch ``index``; reads one record.

        Raises:
            DataError: the record cannot be used; names database, key and position.
        """
        skips: list[tuple[int, str]] = []
        ordinals = self._ordinals(index)[:1]
        first = self._fetch(int(ordinals[0]), 0, skips)
        (choice,) = self.transform.choose(self.seed, ordinals)
        return self._shape(first, self._decode(first, 0, skips), choice)

    def draft(self, index: int) -> Draft:
        """Read the records of batch ``index`` and make room for it.

        Raises:
            DataError: a record cannot be read, or the first one cannot be used.
        """
        skips: list[tuple[int, str]] = []
        ordinals = self._ordinals(index)
        records = [self._fetch(int(s), row, skips) for row, s in enumerate(ordinals)]
        choices = self.transform.choose(self.seed, ordinals)
        first = self._decode(records[0], 0, skips)
        waits = self.bytes_wanted and self.transform.can_wait and first.pixels.dtype == np.uint8
        shape = self._shape(records[0], first, choices[0])
        data = self._memory.array(shape, np.uint8 if waits else np.float32)
        labels = np.empty(self.rows, np.float32)
        return Draft(data, labels, first, records, choices, skips)

    def fill(self, draft: Draft, row: int) -> None:
        """Decode and transform row ``row`` of a draft.

        Raises:
            DataError: the record cannot be used; names database, key and position.
        """
        stored = draft.records[row]
        record = draft.first if row == 0 else self._decode(stored, row, draft.skips)
        draft.labels[row] = record.label
        if draft.data.dtype == np.uint8 and record.pixels.dtype != np.uint8:
            draft.others.append((row, record))
            return
        self._apply(draft, row, record, draft.data)

    def finished(self, draft: Draft) -> Batch:
        """The batch, once all rows are filled.

        Raises:
            DataError: a record has another shape than the first one.
        """
        blob: Floats | Crops = draft.data
        if draft.data.dtype == np.uint8:
            blob = self.transform.crops(draft.data, draft.choices)
        if isinstance(blob, Crops) and draft.others:
            blob = blob.floats()
            for row, record in sorted(draft.others, key=lambda other: other[0]):
                self._apply(draft, row, record, blob)
        return Batch(blob, draft.labels, tuple(sorted(draft.skips)))

    def _apply(self, draft: Draft, row: int, record: Record, data: NDArray[Any]) -> None:
        try:
            self.transform.apply(record.pixels, draft.choices[row], data[row])
        except DataError as error:
            raise self._located(error, draft.records[row]) from error

    def _ordinals(self, index: int) -> NDArray[np.int64]:
        return index * self.batch_size + np.arange(self._slice.start, self._slice.stop)

    def _fetch(self, ordinal: int, row: int, skips: list[tuple[int, str]]) -> Stored:
        for step in range(_MOST_CORRUPT_IN_A_ROW):
            try:
                return self.samples.fetch(ordinal + step)
            except DataError as error:
                if not self.skip_corrupt:
                    raise
                skips.append((row, str(error)))
        raise self._hopeless()

    def _decode(self, stored: Stored, row: int, skips: list[tuple[int, str]]) -> Record:
        for _ in range(_MOST_CORRUPT_IN_A_ROW):
            try:
                return self.samples.decode(stored)
            except DataError as error:
                located = self._located(error, stored)
                if not self.skip_corrupt:
                    raise located from error
                skips.append((row, str(located)))
            stored = self._fetch(stored.ordinal + 1, row, skips)
        raise self._hopeless()

    def _shape(self, stored: Stored, record: Record, choice: Choice) -> tuple[int, int, int, int]:
        try:
            shape = self.transform.output_shape(record.shape, choice)
        except DataError as error:
            raise self._located(error, stored) from error
        return (self.rows, *shape)

    def _located(self, error: DataError, stored: Stored) -> DataError:
        return DataError(f"{self.samples.locate(stored)}: {error}")

    def _hopeless(self) -> DataError:
        return DataError(
            f"{self.samples.path}: {_MOST_CORRUPT_IN_A_ROW} records in a row cannot be used; "
            "look at it with: caffecompat dataset verify"
        )
