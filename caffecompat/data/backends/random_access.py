"""Parts of files, read where they are asked for.

By ordinary reads and never by mapping: a mapped file that another process cuts off, or whose disk
fails, ends this process by a signal.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from caffecompat.input_files import PathLike, open_input

# A large LevelDB has more files than a process may have open.
_MOST_OPEN = 64


class RandomAccessFile:
    """A regular file, open for reading from any place; safe to read from several threads.

    Attributes:
        size: its length in bytes when it was opened.

    Raises:
        FileProblem: it cannot be opened, or is no regular file.
    """

    def __init__(self, path: PathLike) -> None:
        with open_input(path) as file:
            # A bare descriptor, since a forgotten file object warns when it is garbage.
            self._descriptor = os.dup(file.fileno())
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, size: int) -> bytes:
        """``size`` bytes from ``start`` on.

        Raises:
            ValueError: the file ends before, or the disk fails.
        """
        data = self.read_up_to(start, size)
        if len(data) < size:
            raise ValueError(
                f"the file ends at byte {start + len(data):,}, expected {start + size:,} or more: "
                "it has been cut off"
            )
        return data

    def read_up_to(self, start: int, size: int) -> bytes:
        """Like :meth:`read`, but fewer bytes if the file ends before."""
        try:
            data = os.pread(self._descriptor, size, start)
            # One call gives at most 2 GiB, and less if a signal arrives.
            while 0 < len(data) < size:
                more = os.pread(self._descriptor, size - len(data), start + len(data))
                if not more:
                    break
                data += more
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"the file cannot be read: {reason}") from error
        return data

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.close()


class OpenFiles:
    """Any number of files, of which the ones used last are open; safe to use from several threads.

    Args:
        most: how many are open at a time.
    """

    def __init__(self, most: int = _MOST_OPEN) -> None:
        self._most = most
        self._open: OrderedDict[str, RandomAccessFile] = OrderedDict()
        self._lock = threading.Lock()

    def size(self, path: str) -> int:
        """Length of a file in bytes.

        Raises:
            FileProblem: as :class:`RandomAccessFile`.
        """
        with self._lock:
            return self._file(path).size

    def read(self, path: str, start: int, size: int) -> bytes:
        """``size`` bytes of a file from ``start`` on.

        Raises:
            FileProblem, ValueError: as :class:`RandomAccessFile`.
        """
        with self._lock:
            return self._file(path).read(start, size)

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def _file(self, path: str) -> RandomAccessFile:
        file = self._open.get(path)
        if file is None:
            while len(self._open) >= self._most:
                self._open.popitem(last=False)[1].close()
            file = self._open[path] = RandomAccessFile(path)
        self._open.move_to_end(path)
        return file
