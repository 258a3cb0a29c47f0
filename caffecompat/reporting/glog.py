"""The log: Caffe's lines, so that scripts that read Caffe's logs go on working.

Everything goes through Python's ``logging`` under the name ``caffecompat``. Programs decide what
becomes of it; :func:`log_to_stderr` is what the command line does.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from caffecompat.reporting.terminal import as_level, printable

LOGGER = logging.getLogger("caffecompat")

# Lines that a progress bar says better: they carry this attribute.
PROGRESS: dict[str, Any] = {"progress": True}

_LETTERS = {logging.DEBUG: "I", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E"}


class GlogFormatter(logging.Formatter):
    """``I1120 22:14:42.352297 24065 solver.py:204] text``: level, month and day, time, process.

    There is no year: Caffe's log parsers need the short date.
    """

    def format(self, record: logging.LogRecord) -> str:
        letter = _LETTERS.get(record.levelno, "F")
        clock = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        micro = int(record.created % 1 * 1e6)
        where = f"{record.filename}:{record.lineno}"
        message = printable(record.getMessage(), keep="\n\t")
        text = f"{letter}{clock}.{micro:06d} {record.process:>5} {where}] {message}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


@contextmanager
def log_to(handler: logging.Handler) -> Iterator[None]:
    """Sends the log to ``handler`` in Caffe's format while the context lasts."""
    level = LOGGER.level
    handler.setFormatter(GlogFormatter())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
        handler.close()


class ErrorStream(logging.StreamHandler[TextIO]):
    """Standard error, with warnings and errors in colour where it shows colours.

    Lines that cannot be written, because a disk is full or nobody reads, are dropped: a log must
    never end a training.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def format(self, record: logging.LogRecord) -> str:
        return as_level(super().format(record), record.levelno, self.stream)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_to_stderr() -> Any:
    """Context in which the log goes to standard error."""
    return log_to(ErrorStream())


def silent_log() -> logging.Logger:
    """A log that nobody reads, for ranks whose lines the first rank writes already."""
    log = logging.Logger("silent")
    log.disabled = True
    return log


def number(value: float) -> str:
    """``value`` as a C++ stream prints it: six significant digits."""
    return f"{value:g}"


def output_lines(
    kind: str, outputs: dict[str, list[float]], weights: dict[str, float]
) -> list[str]:
    """One line per element of every output: ``    Test net output #1: loss = 2.08 (* 1 = ...)``.

    Args:
        kind: ``"Train"`` or ``"Test"``.
        outputs: the elements by blob name, in the order to be listed.
        weights: loss weights by blob name; only blobs with one get the bracket.
    """
    lines: list[str] = []
    for name, values in outputs.items():
        for value in values:
            text = f"    {kind} net output #{len(lines)}: {name} = {number(value)}"
            lines.append(text + loss_bracket(weights.get(name, 0.0), value))
    return lines


def loss_bracket(weight: float, value: float) -> str:
    """`` (* 1 = 2.08 loss)``, or nothing where the weight is 0."""
    return f" (* {number(weight)} = {number(weight * value)} loss)" if weight else ""
