"""How far a long job is: a bar on a terminal if tqdm is installed, lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

# Lines of the log that a bar says better carry this attribute.
BAR_TELLS: dict[str, Any] = {"progress": True}

_SECONDS_PER_LINE = 10.0


def bar_is_possible() -> bool:
    """Whether standard error is a terminal and tqdm is installed."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def console() -> logging.Handler:
    """A handler for log lines on standard error, above the bar where there is one."""
    return _AboveBar() if bar_is_possible() else logging.StreamHandler(sys.stderr)


@contextmanager
def progress_of(unit: str, lines: bool = True) -> Iterator[Progress]:
    """A function to call with (done, in all).

    Args:
        unit: what is counted ("records").
        lines: whether to log a line every ten seconds where no bar is possible.
    """
    if not bar_is_possible():
        yield _Lines(unit) if lines else _nothing
        return
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", dynamic_ncols=True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


class _Lines:
    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_PER_LINE:
            self._last = now
            log.info("%d of %d %s", done, total, self._unit)


def _nothing(done: int, total: int) -> None:
    pass


class _AboveBar(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if not getattr(record, "progress", False):
            tqdm.write(self.format(record), file=sys.stderr)
