"""LMDB, the memory-mapped B-tree that most of Caffe's data sets are stored in."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import lmdb

from caffecompat.data.database import Backend, Database, DatabaseWriter, backends
from caffecompat.errors import DataError, FileProblem, FormatError

_FIRST_MAP_SIZE = 1 << 30
_KEYS_PER_LOCK = 1024
_STEPS_PER_LANDMARK = 256
# Training reads a database from end to end, and there a cold disk is several times faster if the
# kernel reads on. A jump pays with some neighbouring pages that it has no use for.
_READAHEAD = True


class _Environment:
    """An open LMDB that all readers of one file in this process share."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def __del__(self) -> None:
        self.handle.close()


# The binding refuses to open one file twice in a process, but a net may well have two layers on
# it. Keyed by device and inode: a database that was replaced at the same path is another one.
_shared: WeakValueDictionary[tuple[int, int], _Environment] = WeakValueDictionary()
_sharing = threading.Lock()


class LmdbDatabase(Database):
    """An LMDB folder, read through one cursor that remembers which record it stands on.

    LMDB cannot count its way to a record. The first far jump walks once over all keys, without
    touching values (about 0.3 s per million), and keeps one key in 256; jumps start from there.

    Raises:
        FormatError: no LMDB, or one whose file is shorter than its header says.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._lock = threading.Lock()
        self._environment: _Environment | None = _share(path)
        self._transaction = self._environment.handle.begin()
        self._cursor = self._transaction.cursor()
        self._count: int = self._transaction.stat()["entries"]
        self._index = -1
        self._landmarks: list[bytes] = []

    def __len__(self) -> int:
        return self._count

    def keys(self) -> Iterator[bytes]:
        """All keys in order, without reading the values."""
        with self._lock:
            self._check_open()
            cursor = self._transaction.cursor()
        # In slices, so that a long walk shares the transaction with other threads.
        for start in range(0, self._count, _KEYS_PER_LOCK):
            with self._lock:
                self._check_open()
                slice_size = min(_KEYS_PER_LOCK, self._count - start)
                found = [_step(cursor).key() for _ in range(slice_size)]
            yield from found

    def read(self, index: int) -> tuple[bytes, bytes]:
        """Key and value of record ``index``."""
        if not 0 <= index < self._count:
            raise IndexError(f"{self.path}: record {index} of {self._count}")
        with self._lock:
            self._check_open()
            try:
                self._move_to(index)
                return self._cursor.item()
            except lmdb.Error as error:
                self._index = -1
                raise DataError(
                    f"{self.path}: record {index} cannot be read: {error}; "
                    "the database is damaged, make or copy it again"
                ) from error

    def close(self) -> None:
        """Let go of the file; the last reader of it closes it."""
        with self._lock:
            if self._environment is not None:
                self._cursor.close()
                self._transaction.abort()
                self._environment = None

    def _check_open(self) -> None:
        if self._environment is None:
            raise DataError(f"{self.path}: the database has been closed")

    def _move_to(self, index: int) -> None:
        steps = index - self._index
        far = self._index < 0 or abs(steps) > _STEPS_PER_LANDMARK
        # Unknown until the walk is over: an error on the way must not leave a wrong position.
        self._index = -1
        if far:
            steps = self._jump_near(index)
        step = self._cursor.next if steps > 0 else self._cursor.prev
        for _ in range(abs(steps)):
            step()
        self._index = index

    def _jump_near(self, index: int) -> int:
        """Put the cursor near a record and return how many steps are left."""
        if index < _STEPS_PER_LANDMARK:
            self._cursor.first()
            return index
        if not self._landmarks:
            cursor = self._transaction.cursor()
            keys = cursor.iternext(keys=True, values=False)
            self._landmarks = list(itertools.islice(keys, 0, None, _STEPS_PER_LANDMARK))
        self._cursor.set_key(self._landmarks[index // _STEPS_PER_LANDMARK])
        return index % _STEPS_PER_LANDMARK


class LmdbWriter(DatabaseWriter):
    """An LMDB in an existing folder, empty or begun before; its map grows as needed."""

    def __init__(self, folder: str, map_size: int = _FIRST_MAP_SIZE) -> None:
        self._folder = folder
        data = os.path.join(folder, "data.mdb")
        size = os.path.getsize(data) if os.path.exists(data) else 0
        self._map_size = max(map_size, -(-size // map_size) * map_size)
        with _writing(folder):
            self._environment = lmdb.open(folder, map_size=self._map_size, lock=False)

    def __contains__(self, key: bytes) -> bool:
        with _writing(self._folder), self._environment.begin(buffers=True) as transaction:
            return transaction.get(key) is not None

    def write(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Commit records together, in a larger map if they do not fit."""
        pending = list(records)
        with _writing(self._folder):
            while not self._fits(pending):
                self._map_size *= 2
                self._environment.set_mapsize(self._map_size)

    def _fits(self, records: list[tuple[bytes, bytes]]) -> bool:
        """Commit records, or nothing if the map is too small."""
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
        """Bring everything to disk and let go of the file."""
        with _writing(self._folder):
            self._environment.sync(True)
            self._environment.close()


def _share(path: str) -> _Environment:
    data = os.path.join(path, "data.mdb")
    try:
        status = os.stat(data)
    except OSError as error:
        raise FormatError(
            f"{path}: this is no LMDB: its data.mdb cannot be read "
            f"({error.strerror}); expected a folder that an LMDB writer made"
        ) from error
    with _sharing:
        environment = _shared.get((status.st_dev, status.st_ino))
        if environment is None:
            environment = _open(path, status.st_size)
            _shared[status.st_dev, status.st_ino] = environment
    return environment


def _open(path: str, size: int) -> _Environment:
    try:
        handle = lmdb.open(path, readonly=True, lock=False, readahead=_READAHEAD, create=False)
    except (lmdb.Error, OSError) as error:
        raise FormatError(f"{path}: cannot be opened as an LMDB: {error}") from error
    environment = _Environment(handle)
    expected = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
    if size < expected:
        # Reading a mapped page beyond the end of the file would kill the process.
        raise FormatError(
            f"{path}: data.mdb has {size} bytes, but its header speaks of {expected}; "
            "the file is cut off, copy it again"
        )
    return environment


@contextmanager
def _writing(folder: str) -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise FileProblem(f"{folder}: the database cannot be written: {error}") from error


def _step(cursor: Any) -> Any:
    cursor.next()
    return cursor


backends.register("LMDB")(Backend(open=LmdbDatabase, create=LmdbWriter, mark="data.mdb"))
