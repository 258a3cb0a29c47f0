"""Key-value databases of records, as Caffe's Data layer and tools use them.

:func:`open_database` reads, :func:`create_database` writes. What kinds there are is found in
``backends/``: one file per kind, registered under the name that a prototxt uses.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, TypeVar

from caffecompat.errors import DataError, FileProblem
from caffecompat.registry import Registry

Self = TypeVar("Self", bound="Database")


class Database(ABC):
    """Records in byte order of their keys, open for reading.

    ``path`` is the path as it was given, for messages. Safe to read from several threads.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def __len__(self) -> int:
        """Number of records."""

    @abstractmethod
    def keys(self) -> Iterator[bytes]:
        """All keys in order, without reading the values."""

    @abstractmethod
    def read(self, index: int) -> tuple[bytes, bytes]:
        """Key and value of record ``index`` (0 <= index < len).

        Reading on from one record to the next is cheap; a jump may have to walk.

        Raises:
            IndexError: there is no such record.
            DataError: the database is damaged there, or closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; reading afterwards raises. May be called twice."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class DatabaseWriter(ABC):
    """A new database being filled."""

    @abstractmethod
    def write(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Commit records together; a key that is there already is overwritten.

        Raises:
            FileProblem: the disk is full or refuses.
            DataError: the backend cannot store one of the records.
        """

    @abstractmethod
    def close(self) -> None:
        """Bring everything to disk and let go of the file."""


@dataclass(frozen=True)
class Backend:
    """One kind of database: how to open a folder of it, and how to fill a new, empty folder."""

    open: Callable[[str], Database]
    create: Callable[[str], DatabaseWriter]


backends: Registry[Backend] = Registry("database backend", "caffecompat.data.backends")


def open_database(path: str | os.PathLike[str], backend: str = "LMDB") -> Database:
    """Open a database for reading.

    Args:
        path: the folder; relative to the current directory, as in Caffe.
        backend: ``LMDB`` (letter case does not matter).

    Raises:
        FileProblem: there is nothing at ``path``, or it cannot be read.
        FormatError: what is there is no such database, or is cut off.
        DataError: the backend cannot be read yet.
        UnknownName: no such backend.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileProblem(
            f"{name}: there is no database; to make one, run: "
            f"caffecompat convert-imageset ROOT/ LIST.txt {name}"
        )
    return _find(backend, name).open(name)


@contextmanager
def create_database(
    path: str | os.PathLike[str], backend: str = "LMDB"
) -> Iterator[DatabaseWriter]:
    """Fill a new database that appears at ``path`` only when the ``with`` block ends well.

    Everything is written to a folder beside it and renamed at the end, so a crash leaves no
    half database under the name that others look for.

    Raises:
        FileProblem: something is at ``path`` already, or its folder cannot be written.
        DataError, UnknownName: as :func:`open_database`.
    """
    target = os.path.normpath(os.fspath(path))
    kind = _find(backend, target)
    if os.path.lexists(target):
        _refuse_existing(target)
    unfinished = f"{target}.unfinished-{os.getpid()}"
    try:
        os.mkdir(unfinished)
    except OSError as error:
        raise FileProblem(f"{target}: cannot make a folder there: {error.strerror}") from error
    try:
        writer = kind.create(unfinished)
        try:
            yield writer
        finally:
            writer.close()
        if os.path.lexists(target):
            _refuse_existing(target)
        os.rename(unfinished, target)
        _sync_folder(os.path.dirname(target) or ".")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _refuse_existing(target: str) -> NoReturn:
    raise FileProblem(
        f"{target}: already exists, and a database is only written to a new place; "
        "give another name or remove it first"
    )


def _find(backend: str, path: str) -> Backend:
    name = backend.upper()
    if name == "LEVELDB" and name not in backends:
        raise DataError(f"{path}: {_leveldb_advice(path)}")
    return backends.find(name if name in backends else backend, place=path)


def _leveldb_advice(path: str) -> str:
    if os.path.exists(os.path.join(path, "data.mdb")):
        return (
            "the backend is LEVELDB (the default where none is given), but the folder holds an "
            "LMDB; write 'backend: LMDB'"
        )
    return "the LEVELDB backend is not supported yet; use an LMDB (convert-imageset writes one)"


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
