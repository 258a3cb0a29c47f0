"""How far a long job is: a bar on a terminal if tqdm is installed, lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TextIO

from caffecompat.reporting.terminal import as_level

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

# Lines of the log that a bar says better carry this attribute.
BAR_TELLS: dict[str, Any] = {"progress": True}

# The first line comes soon, so that nobody waits before a silent screen.
_SECONDS_TO_FIRST_LINE = 2.0
_SECONDS_PER_LINE = 10.0


def bar_is_possible() -> bool:
    """Whether standard error is a terminal and tqdm is installed."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def console() -> logging.Handler:
    """A handler for log lines on standard error, above the bar where there is one."""
    return _AboveBar() if bar_is_possible() else _ErrorStream(sys.stderr)


@contextmanager
def progress_of(unit: str) -> Iterator[Progress]:
    """A function to call with (done, in all).

    Args:
        unit: what is counted ("records").
    """
    if not bar_is_possible():
        yield Lines(unit)
        return
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", dynamic_ncols=True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


class Lines:
    """A line of the log after two seconds, then every ten, or every two on a terminal.

    Args:
        unit: what is counted ("records").
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._due = time.monotonic() + min(_SECONDS_TO_FIRST_LINE, _SECONDS_PER_LINE)
        self._step = _SECONDS_TO_FIRST_LINE if sys.stderr.isatty() else _SECONDS_PER_LINE

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._step
            log.info("%d of %d %s", done, total, self._unit)


class _ErrorStream(logging.StreamHandler[TextIO]):
    def format(self, record: logging.LogRecord) -> str:
        return as_level(super().format(record), record.levelno, self.stream)


class _AboveBar(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if not getattr(record, "progress", False):
            text = as_level(self.format(record), record.levelno, sys.stderr)
            tqdm.write(text, file=sys.stderr)
