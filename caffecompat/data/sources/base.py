"""The base class of sample sources (databases, image lists, windows), and the database source."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.backends.database import Database
from caffecompat.data.codec.datum import parse_datum
from caffecompat.data.counter_rng import permutation
from caffecompat.data.transforms.transform import Augmentation, Transform
from caffecompat.errors import DataError
from caffecompat.reporting.terminal import short_name


@dataclass(frozen=True)
class RawSample:
    """A sample as read from its source, not yet decoded.

    Attributes:
        ordinal: number of the sample in the run.
        position: number of the record in the source.
        key: the record's key, or the name of the image file.
        value: the record's bytes; empty if the image file is read during decoding.
    """

    ordinal: int
    position: int
    key: bytes
    value: bytes = b""


@dataclass(frozen=True)
class Sample:
    """A decoded sample before the transform; ``pixels`` is channels x height x width."""

    pixels: NDArray[Any]
    label: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.pixels.shape
        return channels, height, width


class Samples(ABC):
    """An endless series of samples; sample ``s`` of a run is a pure function of ``s``.

    ``path`` is the path of the source, for messages. ``label_shape`` is the shape of a sample's
    label: () where it is a number, or where ``label_type`` is object, an array of any shape.
    """

    label_shape: tuple[int, ...] = ()
    label_type: type = np.float32

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def __len__(self) -> int:
        """Number of different samples."""

    @abstractmethod
    def fetch(self, ordinal: int) -> RawSample:
        """Reads sample ``ordinal``; called by one thread at a time, in order if possible.

        Raises:
            DataError: it cannot be read.
        """

    @abstractmethod
    def decode(self, raw: RawSample) -> Sample:
        """Decodes a result of :meth:`fetch`; called by several threads at once.

        Raises:
            DataError: it cannot be used; the message does not contain its place.
        """

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        """The label of a result of :meth:`decode` that is transformed with ``augmentation``."""
        return sample.label

    def label_shape_of(self, first: Sample) -> tuple[int, ...]:
        """The shape of the labels of a batch whose first sample is ``first``."""
        return self.label_shape

    def locate(self, raw: RawSample) -> str:
        """The place of a sample, for messages."""
        key = short_name(raw.key.decode(errors="backslashreplace"))
        return f"{self.path}: record {raw.position} (key {key!r})"

    def largest_label(self, most: int, most_bytes: int) -> tuple[int, int] | None:
        """The largest label of the first samples in stored order, and of how many that is.

        Args:
            most, most_bytes: how many records, and bytes of them, are looked at; what is in memory
                already is looked at as a whole.

        Returns:
            None where it is not known without decoding, or nothing can be read.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Closes files; may be called twice."""


class DatabaseSamples(Samples):
    """The records of a database in order; the first record follows the last.

    Args:
        shuffle_seed: the seed of the orders in which passes take the records; None for their own.
        count: the number of samples, if it is not that of the records.
    """

    def __init__(
        self,
        database: Database,
        transform: Transform,
        shuffle_seed: int | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(database.path)
        self._database = database
        self._transform = transform
        self._count = len(database) if count is None else count
        if len(database) == 0:
            raise DataError(f"{database.path}: the database has no records; put images into it")

        # Two passes, since a batch and replacements of corrupt records may reach the next pass.
        @functools.lru_cache(maxsize=2)
        def order(epoch: int) -> NDArray[np.int64]:
            return permutation(shuffle_seed or 0, self._count, f"database, pass {epoch}")

        self._order = None if shuffle_seed is None else order

    def __len__(self) -> int:
        return self._count

    def position_of(self, ordinal: int) -> int:
        """Which of the samples of a pass is number ``ordinal`` of the run."""
        epoch, position = divmod(ordinal, self._count)
        return position if self._order is None else int(self._order(epoch)[position])

    def fetch(self, ordinal: int) -> RawSample:
        position = self.position_of(ordinal)
        return RawSample(ordinal, position, *self._database.read(position))

    def decode(self, raw: RawSample) -> Sample:
        datum = parse_datum(raw.value)
        return Sample(self._transform.decode(datum), datum.label)

    def largest_label(self, most: int, most_bytes: int) -> tuple[int, int] | None:
        largest, seen, size = 0, 0, 0
        while seen < min(len(self), most) and size < most_bytes:
            try:
                value = self._database.read(seen)[1]
                label = int(parse_datum(value).label)
            except DataError:
                break
            largest = label if seen == 0 else max(largest, label)
            seen, size = seen + 1, size + len(value)
        return (largest, seen) if seen else None

    def close(self) -> None:
        self._database.close()
