"""The LevelDB backend, the default of a Data layer.

Reading needs no library unless tables are compressed, and does not change the folder: LevelDB's
own library needs write permission and rewrites the log. Writing uses plyvel.
"""

from __future__ import annotations

import heapq
import importlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from caffecompat.data.backends.database import Backend, Database, DatabaseWriter, backends
from caffecompat.data.backends.leveldb_encoding import DAMAGED, Part
from caffecompat.data.backends.leveldb_format import open_parts
from caffecompat.data.backends.random_access import OpenFiles
from caffecompat.errors import DataError, FileProblem, needing_extra
from caffecompat.input_files import ClaimedBytes

# Memory per record in addition to its key.
_BYTES_PER_RECORD = 40
_MAX_REASON_CHARACTERS = 200


class LevelDbDatabase(Database):
    """A LevelDB folder, read only.

    LevelDB does not store the number of records, so opening reads every key (and compressed
    values) and keeps the position of each value in memory: about 70 bytes per record.

    Raises:
        FormatError: not a LevelDB, or a damaged or incomplete one.
        MissingExtra: a table is compressed by snappy and no library for it is installed.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._files = OpenFiles()
        try:
            self._parts: list[Part] = open_parts(path, self._files)
        except OSError as error:
            if isinstance(error, FileProblem):
                raise
            raise FileProblem(f"{error.filename}: cannot be read: {error.strerror}") from error
        self._keys = bytearray()
        self._key_ends = array("Q", [0])
        self._places = array("q")
        self._read_keys()

    def __len__(self) -> int:
        return len(self._key_ends) - 1

    def keys(self) -> Iterator[bytes]:
        """All keys in order."""
        self._check_open()
        return (self._key(index) for index in range(len(self)))

    def read(self, index: int) -> tuple[bytes, bytes]:
        """Key and value of record ``index``; any order is equally fast."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: record {index} of {len(self)}")
        self._check_open()
        part, block, start, length = self._places[4 * index : 4 * index + 4]
        try:
            value = self._parts[part].value(block, start, length)
        except FileProblem:
            raise
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{self.path}: record {index} cannot be read: {error}; {DAMAGED}"
            ) from error
        if len(value) != length:
            raise DataError(f"{self.path}: record {index} is cut off; copy the database again")
        return self._key(index), value

    def close(self) -> None:
        """Closes the files."""
        self._parts = []
        self._files.close()

    def _read_keys(self) -> None:
        claimed = ClaimedBytes(self.path, sum(part.size for part in self._parts), remedy=DAMAGED)
        latest: bytes | None = None
        for key, _, deleted, *place in heapq.merge(
            *map(_numbered, range(len(self._parts)), self._parts)
        ):
            claimed.add(_BYTES_PER_RECORD + len(key), "its keys")
            if key != latest and not deleted:
                self._keys += key
                self._key_ends.append(len(self._keys))
                self._places.extend(place)
            latest = key

    def _key(self, index: int) -> bytes:
        return bytes(self._keys[self._key_ends[index] : self._key_ends[index + 1]])

    def _check_open(self) -> None:
        if not self._parts:
            raise DataError(f"{self.path}: the database has been closed")


def _numbered(number: int, part: Part) -> Iterator[tuple[bytes, int, bool, int, int, int, int]]:
    """The entries of one part as tuples whose order is that of merging: by key, newest first."""
    for key, sequence, deleted, block, start, length in part.entries():
        yield key, -sequence, deleted, number, block, start, length


class LevelDbWriter(DatabaseWriter):
    """A LevelDB in an existing folder, empty or partly written, written by plyvel.

    Raises:
        MissingExtra: plyvel is not installed.
    """

    def __init__(self, folder: str) -> None:
        with needing_extra(f"{folder}: writing a LevelDB", "leveldb"):
            plyvel: Any = importlib.import_module("plyvel")
        self._folder = folder
        self._failures = (plyvel.Error, OSError)
        # Checks the checksums of an unfinished database, which a crash may have damaged.
        with self._writing():
            self._database = plyvel.DB(folder, create_if_missing=True, paranoid_checks=True)

    def __contains__(self, key: bytes) -> bool:
        with self._writing():
            return self._database.get(key, verify_checksums=True) is not None

    def write(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Commits records in one transaction."""
        with (
            self._writing(),
            self._database.write_batch(transaction=True, sync=True) as batch,
        ):
            for key, value in records:
                batch.put(key, value)

    def close(self) -> None:
        """Closes the files."""
        self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            # plyvel's messages are bytes.
            reason = error.args[0] if error.args else error
            text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(error)
            # Messages may contain parts of a damaged file.
            text = " ".join(text.split())[:_MAX_REASON_CHARACTERS]
            raise FileProblem(f"{self._folder}: the database cannot be written: {text}") from error


backends.register("LEVELDB")(
    Backend(open=LevelDbDatabase, create=LevelDbWriter, marker_file="CURRENT")
)
