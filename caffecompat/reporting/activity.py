"""What a run is doing at this moment, and a thread that says so where it takes long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from caffecompat.reporting.glog import PROGRESS

# Seconds of silence before the first line, and between the later ones at first and at most.
_FIRST, _NEXT, _MOST = 2.0, 10.0, 60.0
# Later lines come after this share of the time that has passed, so that a log stays readable.
_SHARE = 0.05
_TICK = 0.25


@dataclass(frozen=True)
class Moment:
    """What is being done, and for how long.

    Attributes:
        what: e.g. ``"iteration 3"``.
        layer: where a pass is, e.g. ``"forward, layer 'conv1'"``; empty where nobody can tell.
        since: when it began, by the monotonic clock, in seconds.
    """

    what: str
    layer: str
    since: float

    def text(self, now: float) -> str:
        where = f": {self.layer}" if self.layer else ""
        return f"Working on {self.what} for {max(now - self.since, 0):.0f} s{where}"


class Activity:
    """What a run is doing; the run writes it, other threads look at it.

    Beginning and ending something costs two assignments, so that every iteration can do it.

    Attributes:
        layer: where the present pass is; the run sets it as often as it likes.
    """

    def __init__(self) -> None:
        self._now: tuple[str, int | None, float] | None = None
        self.layer = ""

    def begin(self, what: str, number: int | None = None) -> None:
        """Something begins, e.g. ``begin("iteration", 3)``."""
        self.layer = ""
        self._now = (what, number, time.monotonic())

    def end(self) -> None:
        self._now = None

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Context in which ``what`` is being done."""
        self.begin(what)
        try:
            yield
        finally:
            self.end()

    def look(self) -> Moment | None:
        """What is being done now; None for nothing."""
        now = self._now
        if now is None:
            return None
        what, number, since = now
        return Moment(what if number is None else f"{what} {number}", self.layer, since)


class Pacemaker:
    """Decides when a line about something that takes long is due.

    The first one after 2 seconds, the next 10 seconds later, and then less and less often, at
    least once a minute.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._due = 0.0

    def is_due(self, moment: Moment | None, now: float) -> bool:
        """Whether to say something about ``moment`` at the time ``now``."""
        if moment is None:
            return False
        if moment.since != self._since:
            self._since, self._due = moment.since, moment.since + _FIRST
        if now < self._due:
            return False
        self._due = now + min(max(_NEXT, _SHARE * (now - moment.since)), _MOST)
        return True


@contextmanager
def heartbeat(
    activity: Activity,
    log: logging.Logger,
    look_on: Callable[[Moment, float], None] | None = None,
) -> Iterator[None]:
    """While the context lasts a thread logs what ``activity`` is busy with, where it takes long.

    Args:
        look_on: called several times a second while something is being done, with the time; a
            progress bar shows it, so that it need not show the lines.
    """
    over = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(activity, log, look_on, over), name="caffecompat-heartbeat", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def _beat(
    activity: Activity,
    log: logging.Logger,
    look_on: Callable[[Moment, float], None] | None,
    over: threading.Event,
) -> None:
    pacemaker = Pacemaker()
    while not over.wait(_TICK):
        moment, now = activity.look(), time.monotonic()
        if moment is not None and look_on is not None:
            look_on(moment, now)
        if moment is not None and pacemaker.is_due(moment, now):
            log.info(moment.text(now), extra=PROGRESS if look_on else None)
