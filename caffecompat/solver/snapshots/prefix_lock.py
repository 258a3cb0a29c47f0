"""One training at a time under one snapshot prefix."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from caffecompat.errors import SolverError


class PrefixLock:
    """A file beside the snapshots that a training holds locked.

    The kernel releases the lock when the process ends, however it ends, so that a file which a
    killed training has left behind locks nothing. Where files cannot be locked, or none can be
    made, trainings are not kept apart.

    Args:
        prefix: the snapshot prefix.
        place: the solver's file, for messages.
    """

    def __init__(self, prefix: str, place: str) -> None:
        self._prefix = prefix
        self._place = place
        self.path = f"{prefix}.lock"

    def check(self) -> None:
        """Raises SolverError where another training holds the lock now."""
        if os.path.exists(self.path):
            with self.held():
                pass

    @contextmanager
    def held(self) -> Iterator[None]:
        """Context in which this process holds the lock.

        Raises:
            SolverError: another training holds it; the sentence has its process and machine.
        """
        descriptor = self._take()
        if descriptor is None:
            yield
            return
        try:
            yield
        finally:
            # While it is still locked: nobody else can have taken this file for his own.
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            os.close(descriptor)

    def _take(self) -> int | None:
        """The locked file; None where there can be none."""
        try:
            import fcntl
        except ImportError:  # as on Windows
            return None
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            except OSError:
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise self._refusal(holder) from None
            except OSError:
                os.close(descriptor)
                return None
            if _is_at(self.path, descriptor):
                os.truncate(descriptor, 0)
                with contextlib.suppress(OSError):
                    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                return descriptor
            # Its holder has removed it between the two calls.
            os.close(descriptor)

    def _refusal(self, holder: str) -> SolverError:
        return SolverError(
            f"{self._place}: another training {holder}writes snapshots with the prefix "
            f"{self._prefix!r}; wait for its end, or give this one a snapshot_prefix of its own"
        )


def _holder(descriptor: int) -> str:
    """Who has written his name into the lock file."""
    with contextlib.suppress(OSError, ValueError):
        pid, host = os.pread(descriptor, 300, 0).decode().split()
        return f"(process {pid} on {host}) "
    return ""


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False
