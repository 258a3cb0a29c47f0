"""Atomic writing of files: after a crash the old file or the complete new one is in place.

The content goes to a temporary file, ``.<name>.<8 hexadecimal digits>.tmp``, in the folder of the
target and is renamed to the target at the end. A writer holds a lock on its temporary file while
it runs. The next writer of the same target removes temporary files without a lock, which killed
writers left.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from caffecompat.errors import CaffeError, FileProblem
from caffecompat.input_files import check_regular

PathLike: TypeAlias = str | os.PathLike[str]

# A temporary file's name begins with this many characters of the target's, since most file
# systems allow only 255 bytes, and a character may have four.
MAX_NAME_PREFIX = 60


@contextmanager
def atomic_write(path: PathLike) -> Iterator[BinaryIO]:
    """Context with a binary file that replaces ``path`` if the block succeeds.

    The temporary file is synced to disk and renamed. If the block fails, an existing file at
    ``path`` is unchanged and the temporary file is removed. A symbolic link is kept; the file that
    it points to is replaced. The new file has the permissions of the replaced one, or those of the
    umask.

    Raises:
        FileProblem: the target is a folder, a device, a pipe or a socket; its folder is missing
            or not writable; the disk is full, ...
    """
    target = check_target(path)
    remove_stale_temporaries(target)
    try:
        temporary, file = _open_temporary(target)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be written: {_reason(error, target)}") from error
    try:
        with file:
            yield file
            file.flush()
            keep_permissions(target, file.fileno())
            os.fsync(file.fileno())
            os.replace(temporary, target)
    except CaffeError:
        raise
    except OSError as error:
        names = (temporary, target)
        if error.filename is not None and Path(os.fsdecode(error.filename)) not in names:
            raise
        raise FileProblem(f"{path}: cannot be written: {_reason(error, target)}") from error
    finally:
        # After the rename it no longer exists; after a failure or an interrupt it does.
        with contextlib.suppress(OSError):
            temporary.unlink()
    sync_folder(target.parent)


def check_writable(path: PathLike) -> None:
    """Refuses a file that :func:`atomic_write` could not make, before work that takes long.

    Raises:
        FileProblem: as :func:`atomic_write`.
    """
    target = check_target(path)
    try:
        temporary, file = _open_temporary(target)
        file.close()
        temporary.unlink()
    except OSError as error:
        raise FileProblem(f"{path}: cannot be written: {_reason(error, target)}") from error


def check_target(path: PathLike) -> Path:
    """The file that writing to ``path`` would replace or create, with symbolic links resolved.

    Raises:
        FileProblem: ``path`` exists and is not a regular file. A rename would replace even a
            device such as ``/dev/null``.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else None
        raise FileProblem(f"{path}: cannot be written: {text or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise FileProblem(f"{path}: cannot be written: it is a folder; name a file in it")
    try:
        check_regular(status, os.fspath(path))
    except FileProblem as error:
        raise FileProblem(f"{error}; nothing was written") from error
    return Path(os.path.realpath(path))


def keep_permissions(target: Path, descriptor: int) -> None:
    """Gives an open file the permissions of the file at ``target``, and its owner if allowed."""
    try:
        before = os.stat(target)
    except OSError:
        return
    now = os.fstat(descriptor)
    if hasattr(os, "fchown") and (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    mode = stat.S_IMODE(before.st_mode)
    if hasattr(os, "fchmod") and mode != stat.S_IMODE(now.st_mode):
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, mode)


def remove_stale_temporaries(target: Path) -> None:
    """Removes temporary files of ``target`` whose writers no longer run."""
    if _locks() is None:
        return
    name = re.compile(rf"\.{re.escape(target.name[:MAX_NAME_PREFIX])}\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                remove_if_stale(entry.path)


def longest_name(name: str) -> int:
    """The bytes of the longest name that :func:`atomic_write` needs for a file called ``name``."""
    temporary = _temporary_name(name)
    return max(len(os.fsencode(name)), len(os.fsencode(temporary)))


def sync_folder(folder: Path) -> None:
    """Syncs a folder to disk, so that a rename in it survives a power failure.

    Errors are ignored: some file systems cannot sync folders, but the renamed file is in place
    even then.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open_temporary(target: Path) -> tuple[Path, BinaryIO]:
    """A new, locked temporary file for ``target``."""
    while True:
        temporary = target.with_name(_temporary_name(target.name))
        file = open(temporary, "xb")  # noqa: SIM115 - the caller closes it
        locked = _lock(file.fileno(), wait=True) is not False
        if locked and is_same_file(temporary, file.fileno()):
            return temporary, file
        # Another writer removed the file as stale before it was locked.
        file.close()


def _temporary_name(name: str) -> str:
    return f".{name[:MAX_NAME_PREFIX]}.{os.urandom(4).hex()}.tmp"


def remove_if_stale(temporary: str) -> bool:
    """Removes a temporary file whose writer no longer runs; whether it was removed."""
    with contextlib.suppress(OSError):
        # O_NONBLOCK in case the path is a pipe by now; O_RDWR because network file systems lock
        # only files that are open for writing.
        descriptor = os.open(temporary, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _lock(descriptor, wait=False):
                os.unlink(temporary)
                return True
        finally:
            os.close(descriptor)
    return False


def _lock(descriptor: int, wait: bool) -> bool | None:
    """Locks a file; whether it succeeded, None if the file system does not support locks."""
    fcntl = _locks()
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _locks() -> Any:
    """The module ``fcntl``; None on Windows, where stale temporary files are not removed."""
    try:
        import fcntl
    except ImportError:
        return None
    return fcntl


def is_same_file(path: PathLike, descriptor: int) -> bool:
    """Whether ``path`` still names the open file; False if there is no such path any more.

    A lock file may be removed by its holder between being opened and being locked.
    """
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _reason(error: OSError, target: Path) -> str:
    text = error.strerror or str(error)
    if isinstance(error, FileNotFoundError) and not target.parent.is_dir():
        return f"there is no folder {target.parent}; create it first"
    return text
