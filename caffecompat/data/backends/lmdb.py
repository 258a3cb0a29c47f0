"""The LMDB backend. Reading does not use LMDB's library, writing does."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import lmdb

from caffecompat.data.backends.database import Backend, Database, DatabaseWriter, backends
from caffecompat.data.backends.lmdb_check import check_file
from caffecompat.data.backends.lmdb_pages import LmdbFile
from caffecompat.data.backends.lmdb_records import RecordFinder
from caffecompat.errors import DataError, FileProblem, FormatError
from caffecompat.reporting.units import format_bytes

_FIRST_MAP_SIZE = 1 << 30
log = logging.getLogger(__name__)

_KEYS_PER_LOCK = 1024
# Checking a larger file takes seconds, which is logged.
_MIN_LOGGED_CHECK = 1 << 30
# Space for copied pages of the tree, and for the file system itself.
_DISK_RESERVE = 16 << 20
_FULL_DISK = re.compile("|".join(os.strerror(n) for n in (errno.EIO, errno.ENOSPC, errno.EDQUOT)))


class LmdbDatabase(Database):
    """An LMDB folder (or its data file), read without LMDB's library and without a lock.

    The library maps the file, and a damaged file ends the process; see
    :mod:`caffecompat.data.backends.lmdb_pages`. Pages are checked when they are read, so opening
    takes the same time for large databases. The first jump to a distant record is slow: it reads
    the header of every leaf page (about 12,000 per million records).

    Several readers of one file, forked processes and read-only disks are supported. A concurrent
    writer in another process is not: it may reuse pages that this reader needs.

    Raises:
        FileProblem: data.mdb cannot be opened, or is not a regular file.
        FormatError: not an LMDB, one of an unsupported kind (32 bit, big-endian, several values
            per key), or one whose file is shorter than its header says.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._lock = threading.Lock()
        self._file: LmdbFile | None = None
        data = path if os.path.isfile(path) else os.path.join(path, "data.mdb")
        if not os.path.lexists(data):
            raise FormatError(
                f"{path}: this is not an LMDB: it has no data.mdb; expected a folder that an LMDB "
                "writer created"
            )
        try:
            self._file = LmdbFile(data)
            self._finder = RecordFinder(self._file, path)
        except ValueError as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                f"{path}: cannot be opened as an LMDB: {error}; copy it again, or create it again"
            ) from error
        self._count = self._file.meta.main.entries

    def __len__(self) -> int:
        return self._count

    def keys(self) -> Iterator[bytes]:
        """All keys in order, without reading the values."""
        finder: RecordFinder | None = None
        # In groups, so that the file may be closed between them, but not while it is read.
        for start in range(0, self._count, _KEYS_PER_LOCK):
            stop = min(start + _KEYS_PER_LOCK, self._count)
            with self._lock:
                file = self._opened()
                try:
                    finder = finder or RecordFinder(file, self.path)
                    found = [
                        leaf.keys[place] for leaf, place in map(finder.find, range(start, stop))
                    ]
                except ValueError as error:
                    raise self._damaged(file, str(error)) from error
            yield from found

    def read(self, index: int) -> tuple[bytes, bytes]:
        """Key and value of record ``index``."""
        if not 0 <= index < self._count:
            raise IndexError(f"{self.path}: record {index} of {self._count}")
        with self._lock:
            file = self._opened()
            try:
                leaf, place = self._finder.find(index)
            except ValueError as error:
                raise self._damaged(file, str(error)) from error
            try:
                return leaf.keys[place], file.value(leaf, place)
            except ValueError as error:
                raise self._damaged(file, f"record {index} cannot be read: {error}") from error

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _opened(self) -> LmdbFile:
        if self._file is None:
            raise DataError(f"{self.path}: the database has been closed")
        return self._file

    def _damaged(self, file: LmdbFile, what: str) -> DataError:
        if file.was_written():
            return DataError(
                f"{self.path}: {what}; another process has changed the database since it was "
                "opened: wait until it has finished, and open it again"
            )
        return DataError(
            f"{self.path}: {what}; the database is damaged, copy it again or create it again"
        )


class LmdbWriter(DatabaseWriter):
    """An LMDB in an existing folder, empty or partly written; its map grows as needed.

    Raises:
        FileProblem: the folder cannot be written.
        FormatError: the partly written database is damaged; LMDB's library would crash.
    """

    def __init__(self, folder: str, map_size: int = _FIRST_MAP_SIZE) -> None:
        self._folder = folder
        data = os.path.join(folder, "data.mdb")
        size = os.path.getsize(data) if os.path.exists(data) else 0
        self._map_size = max(map_size, -(-size // map_size) * map_size)
        if size:
            _check_unfinished(folder, data)
        with _writing(folder):
            # The umask applies to this mode, as for any other file.
            self._environment = lmdb.open(folder, map_size=self._map_size, lock=False, mode=0o666)

    def __contains__(self, key: bytes) -> bool:
        with _writing(self._folder), self._environment.begin(buffers=True) as transaction:
            return transaction.get(key) is not None

    def write(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Commits records in one transaction; enlarges the map if they do not fit."""
        pending = list(records)
        size = sum(len(key) + len(value) for key, value in pending)
        with _writing(self._folder, size):
            while not self._fits(pending):
                self._map_size *= 2
                self._environment.set_mapsize(self._map_size)

    def _fits(self, records: list[tuple[bytes, bytes]]) -> bool:
        """Commits records; False, without changes, if the map is too small."""
        try:
            with self._environment.begin(write=True) as transaction:
                for key, value in records:
                    transaction.put(key, value)
        except lmdb.MapFullError:
            return False
        except lmdb.BadValsizeError as error:
            longest = max(len(key) for key, _ in records)
            raise DataError(
                f"LMDB takes keys of 1 to {self._environment.max_key_size()} bytes, but one has "
                f"{longest}; use shorter file names"
            ) from error
        return True

    def close(self) -> None:
        """Syncs everything to disk and closes the file."""
        with _writing(self._folder):
            self._environment.sync(True)
            self._environment.close()


def _check_unfinished(folder: str, data: str) -> None:
    size = os.path.getsize(data)
    if size > _MIN_LOGGED_CHECK:
        log.info("%s: checking the existing %s", folder, format_bytes(size))
    try:
        check_file(data)
    except ValueError as error:
        raise FormatError(
            f"{folder}: the unfinished database is damaged and cannot be resumed: {error}; "
            "remove this folder and start again"
        ) from error


@contextmanager
def _writing(folder: str, size: int = 0) -> Iterator[None]:
    """Context that converts LMDB's errors; ``size`` is the number of bytes to be written."""
    try:
        yield
    except lmdb.Error as error:
        free = shutil.disk_usage(folder).free
        # On a full disk, where a write is incomplete, LMDB reports an I/O error.
        if free < size + _DISK_RESERVE and _FULL_DISK.search(str(error)):
            raise FileProblem(
                f"{folder}: the database cannot be written: the disk is full ({free:,} bytes are "
                f"free, but {size:,} are needed); free some space"
            ) from error
        raise FileProblem(f"{folder}: the database cannot be written: {error}") from error


backends.register("LMDB")(Backend(open=LmdbDatabase, create=LmdbWriter, marker_file="data.mdb"))
