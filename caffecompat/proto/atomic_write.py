"""Writes files so that a crash at any moment leaves the old file or the new one, never half."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from caffecompat.errors import CaffeError, FileProblem


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of ``path`` when the block ends well.

    The bytes go to a file beside, are flushed to the disk and renamed. A failure inside the block
    leaves an old file as it was and nothing else behind. A symbolic link stays one: the file that
    it points to is replaced.

    Raises:
        FileProblem: the folder is missing or not writable, the disk is full, ...
    """
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{target.name[:64]}.{secrets.token_hex(4)}.tmp")
    try:
        if target.is_dir():
            raise FileProblem(f"{path}: cannot be written: it is a folder; name a file in it")
        with open(draft, "xb") as file:
            yield file
            file.flush()
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
    _sync_folder(target.parent)


def _reason(error: OSError, target: Path) -> str:
    text = error.strerror or str(error)
    if isinstance(error, FileNotFoundError) and not target.parent.is_dir():
        return f"there is no folder {target.parent}; create it first"
    return text


def _sync_folder(folder: Path) -> None:
    # The rename itself must reach the disk. Some file systems cannot sync a folder; the file is in
    # place all the same, so that is no failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
