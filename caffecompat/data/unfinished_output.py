"""Results in the making: a folder beside the place where it will appear, and a lock on that place.

The lock is held as long as the process that writes lives, so whoever gets it knows that what
others have left beside the place is abandoned.
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
from caffecompat.output_files import sync_folder

log = logging.getLogger(__name__)

# What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[str]:
    """An empty folder to fill, which takes the name ``path`` when the ``with`` block ends well.

    If the block fails the folder is removed. If the process is killed, the next one that writes
    to the same place removes it and says so.

    Raises:
        FileProblem: something is at ``path`` already, another process is writing it, or its
            folder cannot be written.
    """
    target = os.path.normpath(os.fspath(path))
    refuse_existing(target)
    with place_for(target) as is_locked:
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
def place_for(target: str) -> Iterator[bool]:
    """Makes the folders above ``target`` and keeps other processes from writing it.

    If the block fails the folders that were made are removed again, where nothing is in them.

    Yields:
        whether the place is locked; False on a system that has no locks.

    Raises:
        FileProblem: another process is writing ``target``, or a folder cannot be made.
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
    """Raises FileProblem if there is anything at ``path``.

    The lock of a run that was killed after its last step, for which nobody else would come, goes.
    """
    if os.path.lexists(path):
        if os.path.lexists(f"{path}.lock"):
            with suppress(CaffeError), _lock(f"{path}.lock", path):
                pass
        raise FileProblem(
            f"{path}: already exists, and results are only written to a new place; "
            "give another name or remove it first"
        )


def make_folder(folder: str, target: str) -> None:
    """Makes one folder; ``target`` is what messages name.

    Raises:
        FileProblem: it exists, the disk is full, ...
    """
    try:
        os.mkdir(folder)
    except OSError as error:
        raise _not_made(target, error) from error


def put_in_place(unfinished: str, target: str) -> None:
    """Renames a finished folder and brings the new name to the disk.

    Raises:
        FileProblem: something is at ``target`` by now.
    """
    refuse_existing(target)
    os.rename(unfinished, target)
    sync_folder(Path(target).parent)


def _make_parents(target: str) -> list[str]:
    """The folders above ``target`` that were missing and are made now, deepest first."""
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
            log.warning("%s: removed; a run that was killed had left it", path)


@contextmanager
def _lock(path: str, target: str) -> Iterator[bool]:
    """Keeps a second process from writing ``target``; the lock of a dead process is free."""
    try:
        import fcntl
    except ImportError:  # Windows: two writers at once are the user's business there.
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
                    f"{target}: another process is writing it; wait for its end"
                ) from error
            yield False
            return
        if _is_same_file(handle, path):
            break
        # The process that held it removed the file after we had opened it.
        os.close(handle)
    try:
        yield True
    finally:
        with suppress(FileNotFoundError):
            os.remove(path)
        os.close(handle)


def _is_same_file(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _not_made(target: str, error: OSError) -> CaffeError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileProblem(f"{target}: cannot be made: the disk is full")
    return FileProblem(f"{target}: cannot make a folder there: {error.strerror}")
