"""The file that keeps the log of a training, whatever the terminal shows."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from caffecompat.errors import CaffeError
from caffecompat.reporting.glog import LOGGER, GlogFormatter

# Of names that are taken, a number is added; more than these a second has never seen.
_TRIES = 100


def log_path(prefix: str, folder: str | None = None) -> str:
    """A name for the log of a training that begins now: ``PREFIX_20261127-154612.log``.

    Args:
        prefix: the snapshot prefix, beside which the file goes.
        folder: where it goes instead.
    """
    stem = os.path.join(folder, os.path.basename(prefix)) if folder else prefix
    stem += time.strftime("_%Y%m%d-%H%M%S")
    for number in range(1, _TRIES):
        path = f"{stem}.log" if number == 1 else f"{stem}-{number}.log"
        if not os.path.lexists(path):
            return path
    return f"{stem}-{os.getpid()}.log"


class LogFile(logging.Handler):
    """Writes the log to a file in Caffe's format, from :meth:`open` on with all lines until then.

    A training that cannot be set up thus leaves no file. A file that cannot be written is a
    warning, once; the training goes on without it.

    Args:
        path: the file; it must not exist yet, missing folders are made.
    """

    def __init__(self, path: str) -> None:
        super().__init__(logging.INFO)
        self.path = path
        self.setFormatter(GlogFormatter())
        self._waiting: list[str] | None = []
        self._stream: TextIO | None = None

    def open(self) -> None:
        """Makes the file."""
        waiting, self._waiting = self._waiting or [], None
        try:
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            self._stream = open(self.path, "x", encoding="utf-8")  # noqa: SIM115
            # As in the files of Caffe's logging library; their lines have no year.
            created = time.strftime("%Y/%m/%d %H:%M:%S")
            head = f"Log file created at: {created}\nRunning on machine: {socket.gethostname()}\n"
            self._write(head + "".join(waiting))
        except OSError as error:
            self._give_up(error)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + "\n"
            if self._waiting is not None:
                self._waiting.append(text)
            elif self._stream is not None:
                self._write(text)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()
        super().close()

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(text)
            self._stream.flush()

    def _give_up(self, error: OSError) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()
        LOGGER.warning(
            f"{self.path}: the log file cannot be written: {error.strerror or error}; the training "
            "goes on without it (--log-dir DIR writes it elsewhere)"
        )


@contextmanager
def kept_log(path: str | None) -> Iterator[LogFile | None]:
    """Context in which the log also goes to the file ``path``; None does nothing.

    An error that ends the context becomes the last line of the file.
    """
    if path is None:
        yield None
        return
    handler = LogFile(path)
    LOGGER.addHandler(handler)
    try:
        LOGGER.info(f"Log file: {path}")
        yield handler
    except (CaffeError, KeyboardInterrupt) as error:
        text = str(error) or type(error).__name__
        place = (sys._getframe().f_code.co_filename, 0)
        handler.handle(logging.LogRecord("caffecompat", logging.ERROR, *place, text, None, None))
        raise
    finally:
        LOGGER.removeHandler(handler)
        handler.close()
