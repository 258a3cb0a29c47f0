"""A progress bar on a terminal in place of the lines that would scroll by."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any

from caffecompat.solver.listener import Listener
from caffecompat.solver.log import log_to, log_to_stderr
from caffecompat.solver.solver import Solver


def bar_is_possible() -> bool:
    """Whether standard error is a terminal and tqdm is installed."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def training_log(first: bool = True) -> AbstractContextManager[Any]:
    """Context for the log of a training: above the bar where there is one, else plain lines.

    Of ranks that are not the ``first`` only warnings are shown, such as those of data layers.
    """
    if not first:
        handler = logging.StreamHandler(sys.stderr)
        handler.setLevel(logging.WARNING)
        return log_to(handler)
    return log_to(_AboveBar()) if bar_is_possible() else log_to_stderr()


@contextmanager
def training_bar(solver: Solver, iterations: int) -> Iterator[None]:
    """Shows the progress of ``solver`` to ``iterations`` while the context lasts.

    Does nothing where no bar is possible.
    """
    if not bar_is_possible():
        yield
        return
    from tqdm import tqdm

    # Terminals of containers may say that they have no size; tqdm would draw nothing.
    columns, rows = shutil.get_terminal_size()
    size = {"ncols": columns, "nrows": rows}
    form = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    with tqdm(total=iterations, initial=solver.iter, bar_format=form, **size) as bar:
        listener = _Bar(bar, solver, iterations)
        solver.listeners.append(listener)
        try:
            yield
        finally:
            solver.listeners.remove(listener)


class _Bar(Listener):
    """Moves a bar on. tqdm itself shows the time that is left."""

    def __init__(self, bar: Any, solver: Solver, iterations: int) -> None:
        self._bar = bar
        self._iterations = iterations
        self._images = solver.images_per_iteration
        self._mark(solver)

    def iterated(self, solver: Solver) -> None:
        # Reading the loss waits for the device, so only when the bar is drawn anyway.
        if self._bar.update(1) or solver.iter == self._iterations:
            self._bar.set_postfix_str(self._text(solver), refresh=False)
            self._mark(solver)

    def _text(self, solver: Solver) -> str:
        text = f"loss {solver.loss:.4g}, lr {solver.rate:.3g}"
        spent = time.perf_counter() - self._time
        if spent <= 0:
            return text
        speed = (solver.iter - self._iter) / spent
        if self._images is None:
            text += f", {speed:.4g} it/s"
        else:
            images = self._images * speed
            # Without an exponent, which would push the rest off a narrow terminal.
            text += f", {images:.0f} img/s" if images >= 100 else f", {images:.3g} img/s"
        waited = solver.net.seconds_reading - self._reading
        return f"{text}, data wait {min(waited / spent, 1):.0%}"

    def _mark(self, solver: Solver) -> None:
        """What is shown next counts from here."""
        self._time = time.perf_counter()
        self._iter = solver.iter
        self._reading = solver.net.seconds_reading


class _AboveBar(logging.Handler):
    """Writes lines above the bar and leaves out those that the bar shows itself."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if not getattr(record, "progress", False):
            tqdm.write(self.format(record), file=sys.stderr)
