"""Log lines in the format of Caffe's glog, so that scripts that parse Caffe's logs keep working.

All lines go to Python's logger ``caffecompat``. A program that uses the package configures its
handlers; the command line uses :func:`log_to_stderr`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from caffecompat.reporting.terminal import as_level, printable

LOGGER = logging.getLogger("caffecompat")

# ``extra`` of log lines whose content a progress bar shows, too.
PROGRESS: dict[str, Any] = {"progress": True}

# ``extra`` of a log line that has the text of a message below it, whose strings have no line ends.
TEXT: dict[str, Any] = {"is_text": True}

_LETTERS = {logging.DEBUG: "I", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E"}


class GlogFormatter(logging.Formatter):
    """``I1120 22:14:42.352297 24065 solver.py:204] text``: level, month and day, time, process.

    The date has no year, because Caffe's log parsers expect none.
    """

    def format(self, record: logging.LogRecord) -> str:
        letter = _LETTERS.get(record.levelno, "F")
        clock = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        micro = int(record.created % 1 * 1e6)
        where = f"{record.filename}:{record.lineno}"
        message = printable(record.getMessage(), keep="\n\t")
        if not getattr(record, "is_text", False):
            # A name with a line end must not look like a line of the log.
            message = message.replace("\n", "\n    ")
        text = f"{letter}{clock}.{micro:06d} {record.process:>5} {where}] {message}"
        if record.exc_info:
            text += "\n" + printable(self.formatException(record.exc_info), keep="\n\t")
        return text


@contextmanager
def log_to(handler: logging.Handler) -> Iterator[None]:
    """Context in which the log goes to ``handler`` in Caffe's format."""
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


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    # Python 3.10 has the parameter for type checkers alone.
    _StreamHandler = logging.StreamHandler


class StderrHandler(_StreamHandler):
    """Writes to standard error, with warnings and errors in colour if it supports colours.

    A line that cannot be written (full disk, closed pipe) is dropped: logging must never end a
    training run.
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
    return log_to(StderrHandler())


def silent_log() -> logging.Logger:
    """A logger without output, for all ranks but the first, which writes the same lines."""
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
        outputs: the elements by blob name, in output order.
        weights: loss weights by blob name; the bracket appears only for blobs with a weight.
    """
    lines: list[str] = []
    for name, values in outputs.items():
        for value in values:
            text = f"    {kind} net output #{len(lines)}: {name} = {number(value)}"
            lines.append(text + loss_bracket(weights.get(name, 0.0), value))
    return lines


def loss_bracket(weight: float, value: float) -> str:
    """`` (* 1 = 2.08 loss)``, or an empty string if the weight is 0."""
    return f" (* {number(weight)} = {number(weight * value)} loss)" if weight else ""
