"""The lock of a snapshot prefix: one training at a time writes under it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from caffecompat.errors import SolverError
from caffecompat.output_files import is_same_file


class PrefixLock:
    """A file beside the snapshots that a training keeps locked.

    The kernel releases the lock when the process ends for any reason, so that the file of a killed
    training locks nothing. On systems without file locks, and if the file cannot be created,
    nothing prevents two trainings from using one prefix.

    Args:
        prefix: the snapshot prefix.
        place: the solver's file, for messages.
    """

    def __init__(self, prefix: str, place: str) -> None:
        self._prefix = prefix
        self._place = place
        self.path = f"{prefix}.lock"

    def check(self) -> None:
        """Raises SolverError if another training holds the lock now."""
        if os.path.exists(self.path):
            with self.held():
                pass

    @contextmanager
    def held(self) -> Iterator[None]:
        """Context in which this process holds the lock.

        Raises:
            SolverError: another training holds it; the message names its process and machine.
        """
        descriptor = self._lock()
        if descriptor is None:
            yield
            return
        try:
            yield
        finally:
            # Removed while still locked, so that no other training can hold a lock on this file.
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            os.close(descriptor)

    def _lock(self) -> int | None:
        """The descriptor of the locked file; None if it cannot be locked."""
        try:
            import fcntl
        except ImportError:  # on Windows
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
            if is_same_file(self.path, descriptor):
                os.truncate(descriptor, 0)
                with contextlib.suppress(OSError):
                    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                return descriptor
            # The previous holder has removed the file between the two calls.
            os.close(descriptor)

    def _refusal(self, holder: str) -> SolverError:
        return SolverError(
            f"{self._place}: another training {holder}writes snapshots with the prefix "
            f"{self._prefix!r}; wait for its end, or give this one a snapshot_prefix of its own"
        )


def _holder(descriptor: int) -> str:
    """Process and machine that the lock file names, or an empty string."""
    with contextlib.suppress(OSError, ValueError):
        pid, host = os.pread(descriptor, 300, 0).decode().split()
        return f"(process {pid} on {host}) "
    return ""
