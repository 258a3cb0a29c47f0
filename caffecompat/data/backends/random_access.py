"""Random access to files by ordinary reads.

Files are not mapped: if another process truncates a mapped file, or its disk fails, a signal ends
this process.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from caffecompat.input_files import PathLike, open_input

# A large LevelDB has more files than a process may open.
_MAX_OPEN = 64


class RandomAccessFile:
    """A regular file for reads at any position; several threads may read.

    Attributes:
        size: its length in bytes when it was opened.

    Raises:
        FileProblem: it cannot be opened, or is not a regular file.
    """

    def __init__(self, path: PathLike) -> None:
        with open_input(path) as file:
            # A descriptor, since a file object that is not closed warns at garbage collection.
            self._descriptor = os.dup(file.fileno())
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, size: int) -> bytes:
        """``size`` bytes from ``start`` on.

        Raises:
            ValueError: the file is too short, or the disk fails.
        """
        data = self.read_up_to(start, size)
        if len(data) < size:
            raise ValueError(
                f"the file ends at byte {start + len(data):,}, expected {start + size:,} or more: "
                "it has been cut off"
            )
        return data

    def read_up_to(self, start: int, size: int) -> bytes:
        """Like :meth:`read`, but returns fewer bytes at the end of the file."""
        try:
            data = os.pread(self._descriptor, size, start)
            # One call returns at most 2 GiB, and fewer bytes after a signal.
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
        """Closes the file; may be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.close()


class OpenFiles:
    """Any number of files, of which the most recently used are open; several threads may read.

    Args:
        max_open: number of files that are open at a time.
    """

    def __init__(self, max_open: int = _MAX_OPEN) -> None:
        self._max_open = max_open
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
        """Closes all files."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def _file(self, path: str) -> RandomAccessFile:
        file = self._open.get(path)
        if file is None:
            while len(self._open) >= self._max_open:
                self._open.popitem(last=False)[1].close()
            file = self._open[path] = RandomAccessFile(path)
        self._open.move_to_end(path)
        return file
