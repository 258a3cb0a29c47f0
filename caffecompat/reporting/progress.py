"""The progress of long jobs: a bar on a terminal if tqdm is installed, log lines otherwise."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Protocol

from caffecompat.reporting.glog import StderrHandler
from caffecompat.reporting.terminal import as_level
from caffecompat.reporting.units import duration

log = logging.getLogger(__name__)

# Called with the number of items done and the total.
Progress = Callable[[int, int], None]


class ProgressWithNote(Protocol):
    """Like :data:`Progress`, with a text about the results so far."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None: ...


# No command is silent for longer than this.
_SECONDS_TO_FIRST_LINE = 2.0
_SECONDS_PER_LINE = 10.0


def bar_is_possible() -> bool:
    """Whether standard error is a terminal and tqdm is installed."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def console_handler() -> logging.Handler:
    """A handler that writes log lines to standard error, above the progress bar if there is one."""
    return AboveBarHandler() if bar_is_possible() else StderrHandler()


@contextmanager
def show_progress(unit: str) -> Iterator[ProgressWithNote]:
    """Context with a function that shows progress; call it with (items done, total[, note]).

    Args:
        unit: the counted items, in plural ("records").
    """
    if not bar_is_possible():
        yield ProgressLines(unit)
        return
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", dynamic_ncols=True) as bar:

        def show(done: int, total: int, note: str = "", /) -> None:
            bar.total = total
            if note:
                bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)

        yield show


class ProgressLines:
    """Logs progress after two seconds, then every ten seconds, or every two on a terminal.

    Args:
        unit: the counted items, in plural ("records").
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._begun = time.monotonic()
        self._due = self._begun + min(_SECONDS_TO_FIRST_LINE, _SECONDS_PER_LINE)
        self._step = _SECONDS_TO_FIRST_LINE if sys.stderr.isatty() else _SECONDS_PER_LINE

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._step
        left = (now - self._begun) * (total - done) / max(done, 1)
        estimate = f", about {duration(left)} left" if 0 < done < total else ""
        log.info("%d of %d %s%s%s", done, total, self._unit, estimate, f"; {note}" if note else "")


class AboveBarHandler(logging.Handler):
    """Writes log lines to standard error above a progress bar, in the colour of their level.

    Lines marked with :data:`~caffecompat.reporting.glog.PROGRESS`, whose content the bar shows,
    are left out.

    Args:
        glog_prefix: whether lines start with Caffe's prefix (level, time, file and line). Without
            it, warnings and errors start with the name of their level.
    """

    def __init__(self, glog_prefix: bool = True) -> None:
        super().__init__()
        self._glog_prefix = glog_prefix

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if getattr(record, "progress", False):
            return
        if self._glog_prefix:
            text = self.format(record)
        else:
            level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            text = level + record.getMessage()
        with suppress(OSError):
            tqdm.write(as_level(text, record.levelno, sys.stderr), file=sys.stderr)
