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

from caffecompat.data.unfinished_output import (
    make_folder,
    new_folder,
    place_for,
    put_in_place,
    refuse_existing,
)
from caffecompat.errors import CaffeError, DataError, FileProblem
from caffecompat.output_files import atomic_write
from caffecompat.registry import Registry
from caffecompat.reporting.progress import Progress

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


_RECORDS_PER_STEP = 100
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
            f"{name}: there is no database (from {os.getcwd()}); caffecompat convert-imageset "
            "makes one of images"
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
    half database under the name that others look for. Missing folders above it are made.

    Raises:
        FileProblem: something is at ``path`` already, another process is writing it, or its
            folder cannot be written.
        DataError, UnknownName: as :func:`open_database`.
    """
    kind = _find(backend, os.fspath(path))
    with new_folder(path) as unfinished, _filling(kind, unfinished) as writer:
        yield writer


@contextmanager
def continue_database(
    path: str | os.PathLike[str],
    backend: str,
    purpose: str,
    resume: bool,
    overwrite: bool = False,
) -> Iterator[DatabaseWriter]:
    """Like :func:`create_database`, but what was written is kept if the ``with`` block fails.

    The records wait in the folder ``path`` + ``.unfinished``, which is a database of its own.

    Args:
        path: the database to make.
        backend: kind of database.
        purpose: describes what is being written; only the same purpose is gone on with.
        resume: go on with an unfinished one where there is one.
        overwrite: delete an unfinished one and begin anew.

    Raises:
        FileProblem: as :func:`create_database`; or there is an unfinished one with records, and
            neither ``resume`` nor ``overwrite`` says what to do with it.
        DataError: the unfinished one was begun with another purpose.
    """
    target = os.path.normpath(os.fspath(path))
    kind = _find(backend, target)
    refuse_finished(target)
    unfinished = f"{target}.unfinished"
    with place_for(target):
        begun = os.path.join(unfinished, _PURPOSE)
        if resume and os.path.exists(begun):
            _check_purpose(begun, purpose, unfinished)
        else:
            _clear(unfinished, overwrite)
            make_folder(unfinished, target)
            with atomic_write(begun) as file:
                file.write(purpose.encode())
        try:
            with _filling(kind, unfinished) as writer:
                yield writer
        except BaseException:
            if _records_in(unfinished):
                log.warning("%s: what was done is kept; --resume goes on with it", unfinished)
            else:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        put_in_place(unfinished, target)
        # Last, so that a run that is killed here has left a whole database.
        os.remove(os.path.join(target, _PURPOSE))


def refuse_finished(path: str) -> None:
    """As :func:`refuse_existing`; a run that was killed before its last step is brought to its end.

    Raises:
        FileProblem: something is at ``path``.
    """
    if os.path.exists(os.path.join(path, _PURPOSE)):
        with suppress(CaffeError, OSError), place_for(path):
            os.remove(os.path.join(path, _PURPOSE))
    refuse_existing(path)


def _check_purpose(begun: str, purpose: str, unfinished: str) -> None:
    if Path(begun).read_bytes() != purpose.encode():
        raise DataError(
            f"{unfinished}: was begun with another list or other settings; give the same ones, "
            "or delete it and begin anew with: --overwrite"
        )


def _clear(unfinished: str, overwrite: bool) -> None:
    """Removes what an interrupted run has left, if it is worth nothing or may be deleted.

    Raises:
        FileProblem: it may not.
    """
    if not os.path.lexists(unfinished):
        return
    if not _is_begun(unfinished):
        raise FileProblem(
            f"{unfinished}: is in the way, and is no unfinished database; move it elsewhere"
        )
    records = _records_in(unfinished)
    if records and not overwrite:
        raise FileProblem(
            f"{unfinished}: holds {records:,} records of an interrupted run; go on with it: "
            "--resume, or delete it and begin anew: --overwrite"
        )
    shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _filling(kind: Backend, folder: str) -> Iterator[DatabaseWriter]:
    writer = kind.create(folder)
    try:
        yield writer
    finally:
        writer.close()


def _is_begun(folder: str) -> bool:
    """Whether a folder is what a run of :func:`continue_database` has left at some moment."""
    if not os.path.isdir(folder):
        return False
    visible = [name for name in os.listdir(folder) if not name.startswith(".")]
    return not visible or _PURPOSE in visible or guess_backend(folder) is not None


def _records_in(folder: str) -> int:
    """How many records a database that a run has begun holds; 0 if it cannot be opened."""
    kind = guess_backend(folder)
    if kind is None:
        return 0
    try:
        with backends.find(kind).open(folder) as database:
            return len(database)
    except CaffeError:
        return 0


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


def write_records(
    writer: DatabaseWriter,
    records: Iterable[tuple[bytes, bytes]],
    total: int,
    progress: Progress | None,
    done: int = 0,
) -> int:
    """Writes records in commits, telling ``progress``; returns how many are done of ``total``."""
    for commit in in_commits(records, _RECORDS_PER_STEP):
        writer.write(commit)
        done += len(commit)
        if progress:
            progress(done, total)
    return done


def _find(backend: str, path: str) -> Backend:
    name = backend.upper()
    return backends.find(name if name in backends else backend, place=path)


def _mark(kind: str) -> str:
    return backends.find(kind).mark
