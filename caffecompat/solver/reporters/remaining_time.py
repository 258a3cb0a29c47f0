"""How long the rest of a training will take, said once its first iterations have shown it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from caffecompat.proto.schema import Message
from caffecompat.reporting.activity import Task, heartbeat
from caffecompat.reporting.glog import number
from caffecompat.solver.callbacks import Callback, Training
from caffecompat.solver.test_nets import scheduled_tests

# Seconds that the first iteration must take to be enough; it makes things that later ones need not.
_LONG_FIRST = 30.0
# Seconds of further iterations that are enough.
_ENOUGH = 10.0
# Below this a forecast is not worth a line.
_WORTH_SAYING = 60.0
_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))


class Pace(Callback):
    """Says once what the remaining iterations will take at the speed of the first ones.

    Args:
        message: SolverParameter.
        log: where the line goes.
    """

    def __init__(self, message: Message, log: logging.Logger) -> None:
        self._message = message
        self._log = log
        self._said = False
        self._started = time.monotonic()
        self._first: float | None = None
        self._iterations = 0
        self._testing = 0.0

    def iterated(self, solver: Training) -> None:
        if self._said:
            return
        now = time.monotonic()
        if self._first is None:
            self._first = now
            spent, count, enough = now - self._started - solver.seconds_testing, 1, _LONG_FIRST
            self._testing = solver.seconds_testing
        else:
            self._iterations += 1
            spent = now - self._first - (solver.seconds_testing - self._testing)
            count, enough = self._iterations, _ENOUGH
        if spent >= enough:
            self._said = True
            self._say(solver, spent / count)

    def _say(self, solver: Training, each: float) -> None:
        left = int(self._message.max_iter) - solver.iter
        seconds, tests = left * each, ""
        if solver.tests_made:
            made = scheduled_tests(self._message, solver.iter)
            coming = scheduled_tests(self._message, int(self._message.max_iter)) - made
            seconds += coming * solver.seconds_testing / solver.tests_made
            tests = ", tests included"
        if seconds < _WORTH_SAYING:
            return
        self._log.info(
            f"Forecast: the remaining {left} iterations take about {duration(seconds)} at this "
            f"speed ({number(float(f'{each:.3g}'))} s per iteration{tests})"
        )


@contextmanager
def pace_reported(solver: Training, message: Message, log: logging.Logger) -> Iterator[None]:
    """While the context lasts ``log`` tells what takes long, and how long all of it will take."""

    def look_on(moment: Task, now: float) -> None:
        for callback in list(solver.callbacks):
            callback.busy(moment, now)

    pace = Pace(message, log)
    solver.callbacks.append(pace)
    try:
        with heartbeat(solver.activity, log, look_on):
            yield
    finally:
        solver.callbacks.remove(pace)


def duration(seconds: float) -> str:
    """A span of time for people: ``3.2 hours``."""
    for length, name in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {name}"
    return f"{seconds:.0f} seconds"
