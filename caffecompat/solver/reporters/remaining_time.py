"""The remaining time of a training, estimated once from its first iterations."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from caffecompat.proto.schema import Message
from caffecompat.reporting.activity import Task, heartbeat
from caffecompat.reporting.glog import number
from caffecompat.reporting.units import duration
from caffecompat.solver.callbacks import Callback, Training
from caffecompat.solver.tester import scheduled_tests

# A first iteration of at least this many seconds is enough for an estimate by itself, although it
# includes work that is done only once.
_LONG_FIRST = 30.0
# Otherwise further iterations are timed until they have taken this many seconds.
_ENOUGH = 10.0
# Seconds; a shorter remaining time is not logged.
_SHORTEST = 60.0


class RemainingTime(Callback):
    """Logs once how long the remaining iterations take at the speed of the first ones.

    Args:
        message: SolverParameter.
        log: for the line.
    """

    changes_weights = False

    def __init__(self, message: Message, log: logging.Logger) -> None:
        self._message = message
        self._log = log
        self._logged = False
        self._started = time.monotonic()
        self._first: float | None = None
        self._iterations = 0
        self._testing = 0.0

    def iterated(self, solver: Training) -> None:
        if self._logged:
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
            self._logged = True
            self._log_estimate(solver, spent / count)

    def _log_estimate(self, solver: Training, each: float) -> None:
        left = int(self._message.max_iter) - solver.iter
        seconds, tests = left * each, ""
        if solver.tests_made:
            made = scheduled_tests(self._message, solver.iter)
            coming = scheduled_tests(self._message, int(self._message.max_iter)) - made
            seconds += coming * solver.seconds_testing / solver.tests_made
            tests = ", tests included"
        if seconds < _SHORTEST:
            return
        self._log.info(
            f"Forecast: the remaining {left} iterations take about {duration(seconds)} at this "
            f"speed ({number(float(f'{each:.3g}'))} s per iteration{tests})"
        )


@contextmanager
def time_reported(solver: Training, message: Message, log: logging.Logger) -> Iterator[None]:
    """Context in which ``log`` gets lines about long tasks and about the remaining time."""

    def call_busy(task: Task, now: float) -> None:
        for callback in list(solver.callbacks):
            callback.busy(task, now)

    estimate = RemainingTime(message, log)
    solver.callbacks.append(estimate)
    try:
        with heartbeat(solver.activity, log, call_busy):
            yield
    finally:
        solver.callbacks.remove(estimate)
