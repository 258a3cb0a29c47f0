"""Output folders that are filled beside their target and renamed at the end, and the target's lock.

The writing process holds the lock while it runs. A process that gets the lock can therefore remove
unfinished folders of the same target, which killed processes left.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caffecompat.errors import CaffeError, FileProblem
from caffecompat.output_files import is_same_file, sync_folder

log = logging.getLogger(__name__)

# Errors of file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[str]:
    """Context with an empty folder, which is renamed to ``path`` if the block succeeds.

    If the block fails, the folder is removed. If the process is killed, the next process that
    writes to ``path`` removes it and logs a warning.

    Raises:
        FileProblem: ``path`` exists, another process is writing it, or its parent folder cannot
            be written.
    """
    target = os.path.normpath(os.fspath(path))
    refuse_existing(target)
    with lock_target(target) as is_locked:
        if is_locked:
            _remove_abandoned(target)
        unfinished = f"{target}.unfinished-{os.getpid()}"
        make_folder(unfinished, target)
        try:
            yield unfinished
            put_in_place(unfinished, target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def lock_target(target: str) -> Iterator[bool]:
    """Context in which no other process can write ``target``; creates missing parent folders.

    If the block fails, parent folders that it created are removed if they are empty.

    Yields:
        whether ``target`` is locked; False on a system without locks.

    Raises:
        FileProblem: another process is writing ``target``, or a folder cannot be created.
    """
    made = _make_parents(target)
    try:
        with _lock(f"{target}.lock", target) as is_locked:
            yield is_locked
    except BaseException:
        for folder in made:
            with suppress(OSError):
                os.rmdir(folder)
        raise


def refuse_existing(path: str) -> None:
    """Raises FileProblem if ``path`` exists.

    Also removes the lock file of a run that was killed after its last step.
    """
    if os.path.lexists(path):
        if os.path.lexists(f"{path}.lock"):
            with suppress(CaffeError), _lock(f"{path}.lock", path):
                pass
        raise FileProblem(
            f"{path}: already exists, and results are only written to a new path; "
            "give another name or remove it first"
        )


def make_folder(folder: str, target: str) -> None:
    """Creates one folder; messages name ``target``.

    Raises:
        FileProblem: it exists, the disk is full, ...
    """
    try:
        os.mkdir(folder)
    except OSError as error:
        raise _not_made(target, error) from error


def put_in_place(unfinished: str, target: str) -> None:
    """Renames a finished folder to ``target`` and syncs the rename to disk.

    Raises:
        FileProblem: ``target`` exists by now.
    """
    refuse_existing(target)
    os.rename(unfinished, target)
    sync_folder(Path(target).parent)


def _make_parents(target: str) -> list[str]:
    """Creates the missing folders above ``target``; returns them, deepest first."""
    missing: list[str] = []
    folder = os.path.dirname(target)
    while folder and not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise FileProblem(
                    f"{target}: cannot be made: {folder} is a file, expected a folder"
                ) from None
        except OSError as error:
            raise _not_made(target, error) from error
    return missing


def _remove_abandoned(target: str) -> None:
    folder, name = os.path.split(target)
    left_over = re.compile(re.escape(name) + r"\.unfinished-[0-9]+")
    for found in os.listdir(folder or "."):
        if left_over.fullmatch(found):
            path = os.path.join(folder, found)
            shutil.rmtree(path, ignore_errors=True)
            log.warning("%s: removed; a killed run had left it", path)


@contextmanager
def _lock(path: str, target: str) -> Iterator[bool]:
    """Locks ``target`` with the file ``path``; a process releases its lock when it dies."""
    try:
        import fcntl
    except ImportError:  # On Windows nothing prevents two writers of one target.
        yield False
        return
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _not_made(target, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno not in _NO_LOCKS:
                raise FileProblem(
                    f"{target}: another process is writing it; wait until it has finished"
                ) from error
            yield False
            return
        if is_same_file(path, handle):
            break
        # The holder of the lock removed the file after it was opened here.
        os.close(handle)
    try:
        yield True
    finally:
        with suppress(FileNotFoundError):
            os.remove(path)
        os.close(handle)


def _not_made(target: str, error: OSError) -> CaffeError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileProblem(f"{target}: cannot be made: the disk is full")
    return FileProblem(f"{target}: cannot make a folder there: {error.strerror}")
