"""Key-value databases of records, for Caffe's Data layer and tools.

:func:`open_database` reads and :func:`create_database` writes. Each backend is one file in
``backends/``, registered under its name in prototxts.
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
    lock_target,
    make_folder,
    new_folder,
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

    ``path`` is the path as passed, for messages. Several threads may read.
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

        Reading records in order is fast; a jump to another record may be slow.

        Raises:
            IndexError: there is no such record.
            DataError: the database is damaged there, or closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the file; later reads raise. May be called twice."""

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
    """A new database that is being written."""

    @abstractmethod
    def __contains__(self, key: bytes) -> bool:
        """Whether a record with that key has been written."""

    @abstractmethod
    def write(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Commits records in one transaction; an existing key is overwritten.

        Committed records survive a crash of the process or the machine.

        Raises:
            FileProblem: the disk is full or cannot be written.
            DataError: the backend cannot store one of the records.
        """

    @abstractmethod
    def close(self) -> None:
        """Syncs everything to disk and closes the file."""


@dataclass(frozen=True)
class Backend:
    """One database backend.

    Attributes:
        open: opens a database folder for reading.
        create: opens an empty or partly written folder for writing.
        marker_file: name of a file that each folder of this backend contains.
    """

    open: Callable[[str], Database]
    create: Callable[[str], DatabaseWriter]
    marker_file: str


_RECORDS_PER_STEP = 100
# The file in an unfinished database with the fingerprint of its conversion.
_FINGERPRINT = "begun-with.txt"
_ARTICLES = {"LMDB": "an"}

backends: Registry[Backend] = Registry("database backend", "caffecompat.data.backends")


def open_database(path: str | os.PathLike[str], backend: str = "LMDB") -> Database:
    """Open a database for reading.

    Args:
        path: the folder; relative to the current directory, as in Caffe.
        backend: ``LMDB`` or ``LEVELDB`` (letter case does not matter).

    Raises:
        FileProblem: ``path`` does not exist or cannot be read.
        FormatError: it is not a database, or it is cut off.
        DataError: it is a database of another backend.
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
    """The backend of the database in a folder, by its files; None if it is not a database."""
    name = os.fspath(path)
    found = (kind for kind in backends if os.path.isfile(os.path.join(name, _marker_file(kind))))
    return next(found, None)


@contextmanager
def create_database(
    path: str | os.PathLike[str], backend: str = "LMDB"
) -> Iterator[DatabaseWriter]:
    """Context with the writer of a new database, which appears at ``path`` if the block succeeds.

    Everything is written to a folder beside ``path`` and renamed at the end, so a crash leaves no
    partial database at ``path``. Missing folders above it are created.

    Raises:
        FileProblem: ``path`` exists, another process is writing it, or its parent folder cannot
            be written.
        DataError, UnknownName: as :func:`open_database`.
    """
    kind = _find(backend, os.fspath(path))
    with new_folder(path) as unfinished, _filling(kind, unfinished) as writer:
        yield writer


@contextmanager
def resume_database(
    path: str | os.PathLike[str],
    backend: str,
    fingerprint: str,
    resume: bool,
    overwrite: bool = False,
) -> Iterator[DatabaseWriter]:
    """Like :func:`create_database`, but keeps written records if the ``with`` block fails.

    They stay in the folder ``path`` + ``.unfinished``, which is itself a database.

    Args:
        path: the database to create.
        backend: name of the backend.
        fingerprint: a text that identifies the job; only the same job can be resumed.
        resume: continue an unfinished database if there is one.
        overwrite: delete an unfinished database and start again.

    Raises:
        FileProblem: as :func:`create_database`; or there is an unfinished database with records
            and neither ``resume`` nor ``overwrite`` is set.
        DataError: the unfinished database has another fingerprint.
    """
    target = os.path.normpath(os.fspath(path))
    kind = _find(backend, target)
    refuse_finished(target)
    unfinished = f"{target}.unfinished"
    with lock_target(target):
        fingerprint_file = os.path.join(unfinished, _FINGERPRINT)
        if resume and os.path.exists(fingerprint_file):
            _check_fingerprint(fingerprint_file, fingerprint, unfinished)
        else:
            _clear(unfinished, overwrite)
            make_folder(unfinished, target)
            with atomic_write(fingerprint_file) as file:
                file.write(fingerprint.encode())
        try:
            with _filling(kind, unfinished) as writer:
                yield writer
        except BaseException:
            if _records_in(unfinished):
                log.warning("%s: written records are kept; continue with --resume", unfinished)
            else:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        put_in_place(unfinished, target)
        # Last, so that a run that is killed here has left a complete database.
        os.remove(os.path.join(target, _FINGERPRINT))


def refuse_finished(path: str) -> None:
    """As :func:`refuse_existing`; also completes a run that was killed before its last step.

    Raises:
        FileProblem: ``path`` exists.
    """
    if os.path.exists(os.path.join(path, _FINGERPRINT)):
        with suppress(CaffeError, OSError), lock_target(path):
            os.remove(os.path.join(path, _FINGERPRINT))
    refuse_existing(path)


def _check_fingerprint(path: str, fingerprint: str, unfinished: str) -> None:
    if Path(path).read_bytes() != fingerprint.encode():
        raise DataError(
            f"{unfinished}: was begun with another list or other settings; give the same ones, "
            "or delete it and start again with --overwrite instead of --resume"
        )


def _clear(unfinished: str, overwrite: bool) -> None:
    """Removes the unfinished database of an interrupted run if it is empty or ``overwrite`` is set.

    Raises:
        FileProblem: it has records, or is not an unfinished database.
    """
    if not os.path.lexists(unfinished):
        return
    if not _is_unfinished(unfinished):
        raise FileProblem(
            f"{unfinished}: is in the way, and is not an unfinished database; move it elsewhere"
        )
    records = _records_in(unfinished)
    if records and not overwrite:
        raise FileProblem(
            f"{unfinished}: holds {records:,} records of an interrupted run; to continue, give "
            "--resume; to delete it and start again, give --overwrite"
        )
    shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _filling(kind: Backend, folder: str) -> Iterator[DatabaseWriter]:
    writer = kind.create(folder)
    try:
        yield writer
    finally:
        writer.close()


def _is_unfinished(folder: str) -> bool:
    """Whether an interrupted run of :func:`resume_database` can have left a folder."""
    if not os.path.isdir(folder):
        return False
    visible = [name for name in os.listdir(folder) if not name.startswith(".")]
    return not visible or _FINGERPRINT in visible or guess_backend(folder) is not None


def _records_in(folder: str) -> int:
    """Number of records of an unfinished database; 0 if it cannot be opened."""
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
    """Groups records into lists of at most ``count`` records and about ``size`` bytes."""
    pending: list[tuple[bytes, bytes]] = []
    pending_bytes = 0
    for record in records:
        pending.append(record)
        pending_bytes += len(record[1])
        if len(pending) == count or pending_bytes >= size:
            yield pending
            pending, pending_bytes = [], 0
    if pending:
        yield pending


def write_records(
    writer: DatabaseWriter,
    records: Iterable[tuple[bytes, bytes]],
    total: int,
    progress: Progress | None,
    done: int = 0,
) -> int:
    """Writes records in several commits and calls ``progress``.

    Args:
        done: number of records written before.

    Returns:
        ``done`` plus the number of records.
    """
    for commit in in_commits(records, _RECORDS_PER_STEP):
        writer.write(commit)
        done += len(commit)
        if progress:
            progress(done, total)
    return done


def _find(backend: str, path: str) -> Backend:
    name = backend.upper()
    return backends.find(name if name in backends else backend, place=path)


def _marker_file(kind: str) -> str:
    return backends.find(kind).marker_file
