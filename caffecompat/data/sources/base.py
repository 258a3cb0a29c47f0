"""Where the samples of a run come from: what a batch maker asks of databases, lists and windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from caffecompat.data.backends.database import Database
from caffecompat.data.codec.datum import parse_datum
from caffecompat.data.transforms.transform import Transform
from caffecompat.errors import DataError


@dataclass(frozen=True)
class Stored:
    """Sample ``ordinal`` of a run as it was read: where it stands, its key, its bytes."""

    ordinal: int
    position: int
    key: bytes
    value: bytes = b""


@dataclass(frozen=True)
class Record:
    """A decoded record: channels x height x width, not yet transformed."""

    pixels: NDArray[Any]
    label: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.pixels.shape
        return channels, height, width


class Samples(ABC):
    """An endless series of samples; sample ``s`` of a run is a pure function of ``s``.

    ``path`` says where they come from, for messages.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def __len__(self) -> int:
        """How many different ones there are."""

    @abstractmethod
    def fetch(self, ordinal: int) -> Stored:
        """Read sample ``ordinal``; called by one thread at a time, in order where possible.

        Raises:
            DataError: it cannot be read.
        """

    @abstractmethod
    def decode(self, stored: Stored) -> Record:
        """Make an array of what :meth:`fetch` gave; called by several threads at once.

        Raises:
            DataError: it cannot be used; the message does not say where it is.
        """

    def locate(self, stored: Stored) -> str:
        """Where a sample comes from, for messages."""
        key = stored.key.decode(errors="backslashreplace")
        return f"{self.path}: record {stored.position} (key {key!r})"

    @abstractmethod
    def close(self) -> None:
        """Let go of files; may be called twice."""


class DatabaseSamples(Samples):
    """The records of a database in order, again from the first after the last."""

    def __init__(self, database: Database, transform: Transform) -> None:
        super().__init__(database.path)
        self._database = database
        self._transform = transform
        if len(database) == 0:
            raise DataError(f"{database.path}: the database has no records; put images into it")

    def __len__(self) -> int:
        return len(self._database)

    def fetch(self, ordinal: int) -> Stored:
        position = ordinal % len(self._database)
        return Stored(ordinal, position, *self._database.read(position))

    def decode(self, stored: Stored) -> Record:
        datum = parse_datum(stored.value)
        return Record(self._transform.decode(datum), datum.label)

    def close(self) -> None:
        self._database.close()
