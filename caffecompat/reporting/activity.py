"""The task that a run is working on, and a thread that logs tasks which take long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from caffecompat.reporting.glog import PROGRESS

# Seconds from the start of a task to its first line, and between later lines.
_FIRST_DELAY, _MIN_INTERVAL, _MAX_INTERVAL = 2.0, 10.0, 60.0
# The interval grows with the elapsed time by this factor, which keeps the log short.
_INTERVAL_PER_ELAPSED = 0.05
_SECONDS_PER_POLL = 0.25


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        what: its name, e.g. ``"iteration 3"``.
        layer: the position of a pass, e.g. ``"forward, layer 'conv1'"``; empty if unknown.
        since: start time on the monotonic clock, in seconds.
    """

    what: str
    layer: str
    since: float

    def text(self, now: float) -> str:
        """The log line about the task at time ``now``."""
        where = f": {self.layer}" if self.layer else ""
        return f"Working on {self.what} for {max(now - self.since, 0):.0f} s{where}"


class Activity:
    """The current task of a run. The run sets it; other threads read it.

    Setting it costs two assignments, cheap enough for every iteration.

    Attributes:
        layer: the position of the current pass; the run may set it at any time.
    """

    def __init__(self) -> None:
        self._now: tuple[str, int | None, float] | None = None
        self.layer = ""

    def begin(self, what: str, number: int | None = None) -> None:
        """Starts a task, e.g. ``begin("iteration", 3)``."""
        self.layer = ""
        self._now = (what, number, time.monotonic())

    def end(self) -> None:
        """Ends the current task."""
        self._now = None

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Context whose body is the task ``what``."""
        self.begin(what)
        try:
            yield
        finally:
            self.end()

    def current(self) -> Task | None:
        """The current task, None between tasks."""
        now = self._now
        if now is None:
            return None
        what, number, since = now
        return Task(what if number is None else f"{what} {number}", self.layer, since)


class ReportSchedule:
    """Decides when to log a line about a task that takes long.

    The first line is due after 2 seconds, the second 10 seconds later. The intervals then grow to
    at most one minute.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._due = 0.0

    def is_due(self, task: Task | None, now: float) -> bool:
        """Whether a line about ``task`` is due at time ``now``; if so, schedules the next one."""
        if task is None:
            return False
        if task.since != self._since:
            self._since, self._due = task.since, task.since + _FIRST_DELAY
        if now < self._due:
            return False
        interval = max(_MIN_INTERVAL, _INTERVAL_PER_ELAPSED * (now - task.since))
        self._due = now + min(interval, _MAX_INTERVAL)
        return True


@contextmanager
def heartbeat(
    activity: Activity,
    log: logging.Logger,
    on_task: Callable[[Task, float], None] | None = None,
) -> Iterator[None]:
    """Context in which a thread logs each task of ``activity`` that takes long.

    Args:
        on_task: called several times a second during a task, with the task and the time. A
            progress bar uses it to show the task; the log lines are then marked for it to skip.
    """
    finished = threading.Event()
    thread = threading.Thread(
        target=_run_heartbeat,
        args=(activity, log, on_task, finished),
        name="caffecompat-heartbeat",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join(timeout=5)


def _run_heartbeat(
    activity: Activity,
    log: logging.Logger,
    on_task: Callable[[Task, float], None] | None,
    finished: threading.Event,
) -> None:
    schedule = ReportSchedule()
    while not finished.wait(_SECONDS_PER_POLL):
        task, now = activity.current(), time.monotonic()
        if task is not None and on_task is not None:
            on_task(task, now)
        if task is not None and schedule.is_due(task, now):
            log.info(task.text(now), extra=PROGRESS if on_task else None)
