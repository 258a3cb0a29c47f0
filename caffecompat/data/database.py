"""Key-value databases of records, as Caffe's Data layer and tools use them.

:func:`open_database` reads, :func:`create_database` writes. What kinds there are is found in
``backends/``: one file per kind, registered under the name that a prototxt uses.
"""

from __future__ import annotations

import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from caffecompat.errors import CaffeError, DataError, FileProblem
from caffecompat.proto.atomic_write import atomic_write
from caffecompat.registry import Registry

log = logging.getLogger(__name__)

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
    def __contains__(self, key: bytes) -> bool:
        """Whether a record of that key has been written."""

    @abstractmethod
    def write(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Commit records together; a key that is there already is overwritten.

        What has been committed survives a crash of the process or the machine.

        Raises:
            FileProblem: the disk is full or refuses.
            DataError: the backend cannot store one of the records.
        """

    @abstractmethod
    def close(self) -> None:
        """Bring everything to disk and let go of the file."""


@dataclass(frozen=True)
class Backend:
    """One kind of database.

    ``open`` reads a folder of it, ``create`` fills an empty folder or goes on with one that it
    began, and ``mark`` is a file that each such folder has.
    """

    open: Callable[[str], Database]
    create: Callable[[str], DatabaseWriter]
    mark: str


_PURPOSE = "begun-with.txt"
_ARTICLES = {"LMDB": "an"}

backends: Registry[Backend] = Registry("database backend", "caffecompat.data.backends")


def open_database(path: str | os.PathLike[str], backend: str = "LMDB") -> Database:
    """Open a database for reading.

    Args:
        path: the folder; relative to the current directory, as in Caffe.
        backend: ``LMDB`` or ``LEVELDB`` (letter case does not matter).

    Raises:
        FileProblem: there is nothing at ``path``, or it cannot be read.
        FormatError: what is there is no such database, or is cut off.
        UnknownName: no such backend.
    """
    name = os.fspath(path)
    kind = _find(backend, name)
    if not os.path.exists(name):
        raise FileProblem(
            f"{name}: there is no database; to make one, run: "
            f"caffecompat convert-imageset ROOT/ LIST.txt {name}"
        )
    actual = guess_backend(name)
    if actual not in (None, backend.upper()):
        default = " (the default where none is given)" if backend.upper() == "LEVELDB" else ""
        raise DataError(
            f"{name}: the backend is {backend.upper()}{default}, but the folder holds "
            f"{_ARTICLES.get(str(actual), 'a')} {actual}; write 'backend: {actual}'"
        )
    return kind.open(name)


def guess_backend(path: str | os.PathLike[str]) -> str | None:
    """The kind of the database in a folder, by the files in it; None if it is none."""
    name = os.fspath(path)
    found = (kind for kind in backends if os.path.isfile(os.path.join(name, _mark(kind))))
    return next(found, None)


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
    unfinished = f"{target}.unfinished-{os.getpid()}"
    refuse_existing(target)
    _make_folder(unfinished, target)
    try:
        with _filling(kind, unfinished) as writer:
            yield writer
        _put_in_place(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def continue_database(
    path: str | os.PathLike[str], backend: str, purpose: str, resume: bool
) -> Iterator[DatabaseWriter]:
    """Like :func:`create_database`, but what was written is kept if the ``with`` block fails.

    The records wait in the folder ``path`` + ``.unfinished``, which is a database of its own. With
    ``resume`` an unfinished one is gone on with, otherwise it is begun anew.

    Args:
        path: the database to make.
        backend: kind of database.
        purpose: describes what is being written; only the same purpose is gone on with.
        resume: whether to look for an unfinished one.

    Raises:
        FileProblem: as :func:`create_database`, or another process is writing there.
        DataError: the unfinished one was begun with another purpose.
    """
    target = os.path.normpath(os.fspath(path))
    kind = _find(backend, target)
    refuse_existing(target)
    unfinished = f"{target}.unfinished"
    with _lock(f"{target}.lock", target):
        begun = os.path.join(unfinished, _PURPOSE)
        if not (resume and os.path.exists(begun)):
            shutil.rmtree(unfinished, ignore_errors=True)
            _make_folder(unfinished, target)
            with atomic_write(begun) as file:
                file.write(purpose.encode())
        elif Path(begun).read_bytes() != purpose.encode():
            raise DataError(
                f"{unfinished}: was begun with another list or other settings; give the same ones, "
                "or leave out --resume to start from the beginning"
            )
        try:
            with _filling(kind, unfinished) as writer:
                yield writer
        except BaseException:
            if _is_empty(kind, unfinished):
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                log.warning("%s: what was done is kept; --resume goes on with it", unfinished)
            raise
        os.remove(begun)
        _put_in_place(unfinished, target)


@contextmanager
def _filling(kind: Backend, folder: str) -> Iterator[DatabaseWriter]:
    writer = kind.create(folder)
    try:
        yield writer
    finally:
        writer.close()


def _is_empty(kind: Backend, folder: str) -> bool:
    try:
        with kind.open(folder) as database:
            return len(database) == 0
    except CaffeError:
        return True


@contextmanager
def _lock(path: str, target: str) -> Iterator[None]:
    """Keeps a second process from writing the same database; a dead one's lock is free."""
    try:
        import fcntl
    except ImportError:  # Windows: two writers at once are the user's business there.
        yield
        return
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _not_made(target, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise FileProblem(f"{target}: another process is writing it; wait for its end") from error
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.remove(path)
        os.close(handle)


def in_commits(
    records: Iterable[tuple[bytes, bytes]], count: int = 1000, size: int = 64 << 20
) -> Iterator[list[tuple[bytes, bytes]]]:
    """Records in lists to be written together, of bounded length and number of bytes."""
    pending: list[tuple[bytes, bytes]] = []
    held = 0
    for record in records:
        pending.append(record)
        held += len(record[1])
        if len(pending) == count or held >= size:
            yield pending
            pending, held = [], 0
    if pending:
        yield pending


def refuse_existing(path: str) -> None:
    """Raises FileProblem if there is anything at ``path``."""
    if os.path.lexists(path):
        raise FileProblem(
            f"{path}: already exists, and results are only written to a new place; "
            "give another name or remove it first"
        )


def _make_folder(folder: str, target: str) -> None:
    try:
        os.mkdir(folder)
    except OSError as error:
        raise _not_made(target, error) from error


def _not_made(target: str, error: OSError) -> FileProblem:
    return FileProblem(f"{target}: cannot make a folder there: {error.strerror}")


def _put_in_place(unfinished: str, target: str) -> None:
    refuse_existing(target)
    os.rename(unfinished, target)
    _sync_folder(os.path.dirname(target) or ".")


def _find(backend: str, path: str) -> Backend:
    name = backend.upper()
    return backends.find(name if name in backends else backend, place=path)


def _mark(kind: str) -> str:
    return backends.find(kind).mark


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
