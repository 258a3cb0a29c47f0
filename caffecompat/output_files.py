"""Writes files so that a crash at any moment leaves the old file or the new one, never half.

The bytes go to a draft, ``.<name>.<8 hexadecimal digits>.tmp`` beside the target, which takes the
target's place by a rename. A writer holds a lock on its draft for as long as it lives, so that
the next writer of the same target tells the drafts of killed writers from those of living ones,
and removes them.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from caffecompat.errors import CaffeError, FileProblem
from caffecompat.input_files import check_regular

PathLike: TypeAlias = str | os.PathLike[str]

# File names have at most 255 bytes; a draft's is longer than its target's.
KEPT_OF_NAME = 64


@contextmanager
def atomic_write(path: PathLike) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of ``path`` when the block ends well.

    The bytes go to a file beside, are flushed to the disk and renamed. A failure inside the block
    leaves an old file as it was and nothing else behind. A symbolic link stays one: the file that
    it points to is replaced. The new file has the permissions of the one that it replaces, and
    follows the umask where there was none.

    Raises:
        FileProblem: the target is a folder, a device, a pipe or a socket; its folder is missing
            or not writable; the disk is full, ...
    """
    target = check_target(path)
    remove_dead_drafts(target)
    try:
        draft, file = _open_draft(target)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be written: {_reason(error, target)}") from error
    try:
        with file:
            yield file
            file.flush()
            keep_permissions(target, file.fileno())
            os.fsync(file.fileno())
            os.replace(draft, target)
    except CaffeError:
        raise
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) not in (draft, target):
            raise
        raise FileProblem(f"{path}: cannot be written: {_reason(error, target)}") from error
    finally:
        # Gone already after the rename; still there after any failure, an interrupt included.
        with contextlib.suppress(OSError):
            draft.unlink()
    sync_folder(target.parent)


def check_target(path: PathLike) -> Path:
    """The file that writing to ``path`` would replace or make, symbolic links followed.

    Raises:
        FileProblem: something is there that is no regular file. A rename would put a file in the
            place of a device, which no program of the system would survive.
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
    """Gives an open file the permissions, and where it may the owner, of the file at ``target``."""
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


def remove_dead_drafts(target: Path) -> None:
    """Removes the drafts of ``target`` whose writers are gone."""
    if _locks() is None:
        return
    name = re.compile(rf"\.{re.escape(target.name[:KEPT_OF_NAME])}\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_if_dead(entry.path)


def sync_folder(folder: Path) -> None:
    """Makes what was renamed into a folder survive a power failure.

    Some file systems cannot sync a folder; the file is in place all the same, so that is no
    failure.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open_draft(target: Path) -> tuple[Path, BinaryIO]:
    """A new draft, locked."""
    while True:
        name = f".{target.name[:KEPT_OF_NAME]}.{secrets.token_hex(4)}.tmp"
        draft = target.with_name(name)
        file = open(draft, "xb")  # noqa: SIM115 - the caller closes it
        if _lock(file.fileno(), wait=True) is not False and _is_there(draft, file.fileno()):
            return draft, file
        # Another writer took it for a dead one's, between its making and its locking.
        file.close()


def _remove_if_dead(draft: str) -> None:
    with contextlib.suppress(OSError):
        # Not blocking, should a pipe have come in its place; network file systems lock only what
        # is open for writing.
        descriptor = os.open(draft, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _lock(descriptor, wait=False):
                os.unlink(draft)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool | None:
    """Whether the file is locked now; None where the file system has no locks."""
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
    """The module of file locks; None on Windows, where no draft is taken for a dead writer's."""
    try:
        import fcntl
    except ImportError:
        return None
    return fcntl


def _is_there(draft: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(draft), os.fstat(descriptor))
    except OSError:
        return False


def _reason(error: OSError, target: Path) -> str:
    text = error.strerror or str(error)
    if isinstance(error, FileNotFoundError) and not target.parent.is_dir():
        return f"there is no folder {target.parent}; create it first"
    return text
