"""LevelDB, the backend that a Data layer has if none is given.

Reading needs no library unless tables are compressed, and leaves the folder as it is: LevelDB's
own library would need write permission and rewrite the log. Writing goes through plyvel.
"""

from __future__ import annotations

import heapq
import importlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from caffecompat.data.backends.database import Backend, Database, DatabaseWriter, backends
from caffecompat.data.backends.leveldb_format import DAMAGED, Part, open_parts
from caffecompat.data.backends.random_access import OpenFiles
from caffecompat.errors import DataError, FileProblem, MissingExtra
from caffecompat.input_files import ClaimedBytes

# Memory that each record takes besides its key.
_BYTES_PER_RECORD = 40
_LONGEST_REASON = 200


class LevelDbDatabase(Database):
    """A LevelDB folder, read only.

    LevelDB cannot say how many records it has, so opening looks at every key (not at the values,
    unless they are compressed) and remembers where each value lies: some 70 bytes per record.

    Raises:
        FormatError: no LevelDB, or a damaged or incomplete one.
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
        """Key and value of record ``index``; a jump costs no more than going on."""
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
        """Let go of the files."""
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
    """Entries of one part so that they merge with those of others: by key, newest first."""
    for key, sequence, deleted, block, start, length in part.entries():
        yield key, -sequence, deleted, number, block, start, length


class LevelDbWriter(DatabaseWriter):
    """A LevelDB in an existing folder, empty or begun before, written by plyvel.

    Raises:
        MissingExtra: plyvel is not installed.
    """

    def __init__(self, folder: str) -> None:
        try:
            plyvel: Any = importlib.import_module("plyvel")
        except ImportError as error:
            raise MissingExtra(f"{folder}: writing a LevelDB", "leveldb") from error
        self._folder = folder
        self._failures = (plyvel.Error, OSError)
        # Checksums are held against what a crash may have left of an unfinished database.
        with self._writing():
            self._database = plyvel.DB(folder, create_if_missing=True, paranoid_checks=True)

    def __contains__(self, key: bytes) -> bool:
        with self._writing():
            return self._database.get(key, verify_checksums=True) is not None

    def write(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Commit records together."""
        with (
            self._writing(),
            self._database.write_batch(transaction=True, sync=True) as batch,
        ):
            for key, value in records:
                batch.put(key, value)

    def close(self) -> None:
        """Let go of the files."""
        self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            # The library gives its messages as bytes.
            reason = error.args[0] if error.args else error
            text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(error)
            # A damaged file's content may stand in them.
            text = " ".join(text.split())[:_LONGEST_REASON]
            raise FileProblem(f"{self._folder}: the database cannot be written: {text}") from error


backends.register("LEVELDB")(Backend(open=LevelDbDatabase, create=LevelDbWriter, mark="CURRENT"))
