"""What SIGINT, SIGHUP and SIGTERM do to a training run."""

from __future__ import annotations

import signal
from enum import Enum
from types import FrameType, TracebackType
from typing import Any


class Action(Enum):
    """What the loop is asked to do between two iterations."""

    NONE = "none"
    STOP = "stop"
    SNAPSHOT = "snapshot"
    # Stop with a snapshot whatever the definition says, since someone takes the machine away.
    PREEMPT = "preempt"


class SignalActions:
    """Turns signals into actions that a loop picks up between iterations (a context manager).

    Inside the context SIGINT, SIGHUP and SIGTERM are caught; :meth:`requested` answers with the
    action of one that came since the last question, for SIGTERM always :attr:`Action.PREEMPT`. A
    second SIGINT before the first was picked up interrupts at once, so that a hanging iteration
    can be left. Entering lets through signals that were blocked. Only the main thread may enter.
    """

    def __init__(self, on_interrupt: Action, on_hangup: Action) -> None:
        self._effects: dict[int, Action] = {signal.SIGINT: on_interrupt}
        if hasattr(signal, "SIGHUP"):
            self._effects[signal.SIGHUP] = on_hangup
        self._effects[signal.SIGTERM] = Action.PREEMPT
        self._pending: list[int] = []
        self._previous: dict[int, Any] = {}
        self._preempted = False

    def __enter__(self) -> SignalActions:
        for number in self._effects:
            self._previous[number] = signal.signal(number, self._catch)
        if hasattr(signal, "pthread_sigmask"):
            # Whoever has started this process may have held them back until now.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._effects)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> Action:
        """The action asked for since the last call; each signal is answered once."""
        return self._effects[self._pending.pop(0)] if self._pending else Action.NONE

    def stop_requested(self) -> bool:
        """Whether a signal that ends the run waits for its answer."""
        stops = (Action.STOP, Action.PREEMPT)
        return any(self._effects[number] in stops for number in self._pending)

    @property
    def preempted(self) -> bool:
        """Whether SIGTERM has come."""
        return self._preempted

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._preempted = self._preempted or number == signal.SIGTERM
        if number not in self._pending:
            self._pending.append(number)
        elif number == signal.SIGINT and self._effects[number] is not Action.NONE:
            raise KeyboardInterrupt
