"""Where the samples of a run come from: what a batch maker asks of databases, lists and windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from caffecompat.data.backends.database import Database
from caffecompat.data.codec.datum import parse_datum
from caffecompat.data.codec.images import possible_reduction
from caffecompat.data.transforms.transform import Transform
from caffecompat.errors import DataError
from caffecompat.reporting.terminal import short_name


@dataclass(frozen=True)
class Stored:
    """Sample ``ordinal`` of a run as it was read: where it stands, its key, its bytes."""

    ordinal: int
    position: int
    key: bytes
    value: bytes = b""


@dataclass(frozen=True)
class Record:
    """A decoded record: channels x height x width, not yet transformed.

    ``size`` has its height and width if the pixels are those of an image decoded smaller.
    """

    pixels: NDArray[Any]
    label: int
    size: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the whole record."""
        channels, height, width = self.pixels.shape
        return (channels, *(self.size or (height, width)))


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
    def decode(self, stored: Stored, side: int | None = None) -> Record:
        """Make an array of it; called by several threads at once.

        Args:
            stored: what :meth:`fetch` gave.
            side: the image will be scaled down to this smallest side, so it may be decoded smaller
                than it is, but no smaller than that; None: whole.

        Raises:
            DataError: it cannot be used; the message does not say where it is.
        """

    def locate(self, stored: Stored) -> str:
        """Where a sample comes from, for messages."""
        key = short_name(stored.key.decode(errors="backslashreplace"))
        return f"{self.path}: record {stored.position} (key {key!r})"

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
        """Let go of files; may be called twice."""


def reduced_record(pixels: NDArray[Any], label: int, size: tuple[int, int]) -> Record:
    """A record of pixels that were decoded smaller; ``size`` is height and width as stored."""
    # Decoding may have turned the image as its camera said.
    turned = (size[0] - size[1]) * (pixels.shape[1] - pixels.shape[2]) < 0
    return Record(pixels, label, size[::-1] if turned else size)


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

    def decode(self, stored: Stored, side: int | None = None) -> Record:
        datum = parse_datum(stored.value)
        possible = possible_reduction(datum.data, side) if side and datum.encoded else None
        if possible is None:
            return Record(self._transform.decode(datum), datum.label)
        pixels = self._transform.decode(datum, possible[0])
        return reduced_record(pixels, datum.label, possible[1])

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
