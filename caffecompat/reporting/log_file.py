"""The log file of a training run, which does not depend on what the terminal shows."""

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

# Runs that start in the same second get numbered names, up to this number.
_MAX_NAMES_PER_SECOND = 100


def log_path(prefix: str, folder: str | None = None) -> str:
    """An unused path for the log of a training run that starts now: ``PREFIX_20261127-154612.log``.

    Args:
        prefix: the snapshot prefix; the log is in the same folder.
        folder: the folder to use instead.
    """
    stem = os.path.join(folder, os.path.basename(prefix)) if folder else prefix
    stem += time.strftime("_%Y%m%d-%H%M%S")
    for number in range(1, _MAX_NAMES_PER_SECOND):
        path = f"{stem}.log" if number == 1 else f"{stem}-{number}.log"
        if not os.path.lexists(path):
            return path
    return f"{stem}-{os.getpid()}.log"


class LogFile(logging.Handler):
    """Writes the log to a file in Caffe's format.

    Lines are kept in memory until :meth:`open` creates the file, so a run whose setup fails leaves
    no file. If the file cannot be written, one warning is logged and training continues without
    it.

    Args:
        path: the file; it must not exist. Missing folders are created.
    """

    def __init__(self, path: str) -> None:
        super().__init__(logging.INFO)
        self.path = path
        self.setFormatter(GlogFormatter())
        self._waiting: list[str] | None = []
        self._stream: TextIO | None = None

    def open(self) -> None:
        """Creates the file and writes the lines logged so far."""
        waiting, self._waiting = self._waiting or [], None
        try:
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            self._stream = open(self.path, "x", encoding="utf-8")  # noqa: SIM115
            # The same header as in glog's files; the log lines themselves have no year.
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
            f"{self.path}: the log file cannot be written: {error.strerror or error}; training "
            "continues without it (--log-dir DIR writes it elsewhere)"
        )


@contextmanager
def kept_log(path: str | None) -> Iterator[LogFile | None]:
    """Context in which the log also goes to the file ``path``; no file if None.

    An error that leaves the context is written as the last line of the file.
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
