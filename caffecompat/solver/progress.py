"""A progress bar on a terminal in place of the lines that would scroll by."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any

from caffecompat.solver.log import log_to, log_to_stderr
from caffecompat.solver.solver import Solver


def bar_is_possible() -> bool:
    """Whether standard error is a terminal and tqdm is installed."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def training_log() -> AbstractContextManager[Any]:
    """Context for the log of a training: above the bar where there is one, else plain lines."""
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
    with tqdm(total=iterations, initial=solver.iter, unit="it", **size) as bar:

        def advance(solver: Solver) -> None:
            # Reading the loss waits for the device, so only when the bar is drawn anyway.
            if bar.update(1) or solver.iter == iterations:
                bar.set_postfix_str(f"loss {solver.loss:.4g}, lr {solver.rate:.3g}", refresh=False)

        solver.on_iteration = advance
        try:
            yield
        finally:
            solver.on_iteration = None


class _AboveBar(logging.Handler):
    """Writes lines above the bar and leaves out those that the bar shows itself."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if not getattr(record, "progress", False):
            tqdm.write(self.format(record), file=sys.stderr)
