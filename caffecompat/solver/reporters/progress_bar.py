"""The progress bar of a training on a terminal, which replaces the lines of the iterations."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from caffecompat.reporting.activity import Task
from caffecompat.reporting.glog import StderrHandler, log_to, log_to_stderr
from caffecompat.reporting.progress import AboveBarHandler, bar_is_possible
from caffecompat.reporting.terminal import columns
from caffecompat.solver.callbacks import Callback, Training

# The least width of the bar itself in columns; seconds after which a pass is shown as long.
_MIN_BAR_WIDTH = 10
_LONG_PASS = 2.0


def training_log(first: bool = True) -> AbstractContextManager[Any]:
    """Context for the log of a training: above the bar if there is one, else plain lines.

    Ranks that are not the ``first`` show only warnings, such as those of data layers.
    """
    if not first:
        handler = StderrHandler()
        handler.setLevel(logging.WARNING)
        return log_to(handler)
    return log_to(AboveBarHandler(glog_prefix=False)) if bar_is_possible() else log_to_stderr()


@contextmanager
def training_bar(solver: Training, iterations: int) -> Iterator[None]:
    """Shows the progress of ``solver`` to ``iterations`` while the context lasts.

    Does nothing if no bar is possible.
    """
    if not bar_is_possible():
        yield
        return
    from tqdm import tqdm

    form = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    # Terminals of containers may report the size 0, for which tqdm draws nothing.
    size = {"ncols": columns(), "nrows": 24}
    with tqdm(total=iterations, initial=solver.iter, bar_format=form, **size) as bar:
        callback = _Bar(bar, solver, iterations)
        solver.callbacks.append(callback)
        try:
            yield
        finally:
            solver.callbacks.remove(callback)


class _Bar(Callback):
    """Updates a bar of tqdm, which itself shows the remaining time."""

    changes_weights = False

    def __init__(self, bar: Any, solver: Training, iterations: int) -> None:
        self._bar = bar
        self._iterations = iterations
        self._images = solver.images_per_iteration
        self._lock = threading.Lock()
        self._start_interval(solver)

    def iterated(self, solver: Training) -> None:
        # Reading the loss waits for the device, so only when the bar is drawn anyway.
        if self._bar.update(1) or solver.iter == self._iterations:
            self._show(fitting(self._parts(solver), self._width()), refresh=False)
            self._start_interval(solver)

    def busy(self, task: Task, now: float) -> None:
        if now - task.since < _LONG_PASS:
            return
        where = task.layer.replace("layer ", "")
        parts = [f"{task.what}: {now - task.since:.0f} s", *([where] if where else [])]
        self._show(fitting(parts, self._width()), refresh=True)

    def _show(self, text: str, refresh: bool) -> None:
        with self._lock:
            self._bar.ncols = columns()
            self._bar.set_postfix_str(text, refresh=refresh)

    def _width(self) -> int:
        """The number of characters that fit beside the bar."""
        values = self._bar.format_dict
        spent = self._bar.format_interval(values["elapsed"])
        total = self._iterations
        # The remaining time may be a few characters longer than the elapsed time.
        fixed = f"100%|| {total}/{total} [{spent}<{spent}00, ]"
        return columns() - len(fixed) - _MIN_BAR_WIDTH

    def _parts(self, solver: Training) -> list[str]:
        """The texts beside the bar, the most important first."""
        spent = time.perf_counter() - self._time
        rate = f"lr {solver.rate:.3g}"
        if spent <= 0:
            return [f"loss {solver.loss:.4g}", rate]
        speed = (solver.iter - self._iter) / spent
        if self._images is None:
            text = f"{speed:.4g} it/s"
        else:
            images = self._images * speed
            # Without an exponent, which would push the rest off a narrow terminal.
            text = f"{images:.0f} img/s" if images >= 100 else f"{images:.3g} img/s"
        waited = solver.net.seconds_reading - self._reading
        wait = f"data wait {min(waited / spent, 1):.0%}"
        return [f"loss {solver.loss:.4g}", text, rate, wait]

    def _start_interval(self, solver: Training) -> None:
        """Starts the interval over which speed and data wait are measured."""
        self._time = time.perf_counter()
        self._iter = solver.iter
        self._reading = solver.net.seconds_reading


def fitting(parts: Sequence[str], width: int) -> str:
    """As many of ``parts``, in their order, as fit into ``width`` characters."""
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text else part
        if len(longer) > width:
            break
        text = longer
    return text or parts[0][: max(width, 0)]
