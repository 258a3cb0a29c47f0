"""One batch from a database: which records, in which shape, with which chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.database import Database
from caffecompat.data.datum import parse_datum
from caffecompat.data.transform import Choice, Transform
from caffecompat.errors import DataError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Transformed records: ``data`` N x channels x height x width, ``labels`` N; float32."""

    data: Floats
    labels: Floats


@dataclass(frozen=True)
class Stored:
    """A record as it was read: its place in the database, its key and its bytes."""

    position: int
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Record:
    """A decoded record: channels x height x width, not yet transformed."""

    pixels: NDArray[Any]
    label: int


@dataclass(frozen=True)
class Draft:
    """A batch whose records are read and whose rows are still to be filled.

    ``first`` is the decoded first record, which had to be looked at for the batch's shape.
    """

    batch: Batch
    first: Record
    records: list[Stored]
    choices: list[Choice]


class BatchMaker:
    """Makes any batch of a run from its index alone.

    Sample ``s = index * batch_size + row`` of the run is record ``s mod len(database)``, so
    batches run over the end of the database into its beginning. The first record of a batch
    decides the shape of that batch. Chance depends on ``(seed, s)`` only.

    Raises:
        DataError: the database is empty or the batch size is not positive.
    """

    def __init__(
        self, database: Database, transform: Transform, batch_size: int, seed: int
    ) -> None:
        if len(database) == 0:
            raise DataError(f"{database.path}: the database has no records; put images into it")
        if batch_size < 1:
            raise DataError(f"{database.path}: batch_size is {batch_size}, expected 1 or more")
        self.database = database
        self.transform = transform
        self.batch_size = batch_size
        self.seed = seed

    def shape(self, index: int) -> tuple[int, int, int, int]:
        """The shape of the data of batch ``index``; reads one record.

        Raises:
            DataError: the record cannot be used; names database, key and position.
        """
        first = self._read(index * self.batch_size)
        return self._shape(first, self._decode(first))

    def draft(self, index: int) -> Draft:
        """Read the records of batch ``index`` and make room for it.

        Raises:
            DataError: a record cannot be read, or the first one cannot be used.
        """
        ordinals = index * self.batch_size + np.arange(self.batch_size)
        records = [self._read(int(ordinal)) for ordinal in ordinals]
        first = self._decode(records[0])
        data = np.empty(self._shape(records[0], first), np.float32)
        labels = np.empty(self.batch_size, np.float32)
        choices = self.transform.choose(self.seed, ordinals)
        return Draft(Batch(data, labels), first, records, choices)

    def fill(self, draft: Draft, row: int) -> None:
        """Decode and transform row ``row`` of a draft.

        Raises:
            DataError: the record cannot be used; names database, key and position.
        """
        stored = draft.records[row]
        record = draft.first if row == 0 else self._decode(stored)
        try:
            self.transform.apply(record.pixels, draft.choices[row], draft.batch.data[row])
        except DataError as error:
            raise self._located(error, stored) from error
        draft.batch.labels[row] = record.label

    def _read(self, ordinal: int) -> Stored:
        position = ordinal % len(self.database)
        return Stored(position, *self.database.read(position))

    def _decode(self, stored: Stored) -> Record:
        try:
            datum = parse_datum(stored.value)
            return Record(self.transform.decode(datum), datum.label)
        except DataError as error:
            raise self._located(error, stored) from error

    def _shape(self, stored: Stored, record: Record) -> tuple[int, int, int, int]:
        channels, height, width = record.pixels.shape
        try:
            shape = self.transform.output_shape((channels, height, width))
        except DataError as error:
            raise self._located(error, stored) from error
        return (self.batch_size, *shape)

    def _located(self, error: DataError, stored: Stored) -> DataError:
        key = stored.key.decode(errors="backslashreplace")
        return DataError(f"{self.database.path}: record {stored.position} (key {key!r}): {error}")
