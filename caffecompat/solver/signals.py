"""Signal handling of a training: the actions of SIGINT, SIGHUP and SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import FrameType, TracebackType
from typing import Any


class Action(Enum):
    """An action that is requested between two iterations."""

    NONE = "none"
    STOP = "stop"
    SNAPSHOT = "snapshot"
    # Stop with a snapshot whatever the definition says, since the machine will be taken away.
    PREEMPT = "preempt"


class SignalActions:
    """Turns signals into actions that a loop handles between iterations (a context manager).

    Inside the context SIGINT, SIGHUP and SIGTERM are caught; :meth:`requested` returns the action
    of a signal that has arrived since the last call, for SIGTERM always :attr:`Action.PREEMPT`. A
    second SIGINT before the first was handled raises KeyboardInterrupt, so that an iteration that
    hangs can be ended. Entering unblocks these signals. Only the main thread may enter.

    SIGTERM ends a process that is forked inside the context, such as one that a Python layer reads
    its data with: who has started it ends it by this signal, and then waits for it.
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
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        if hasattr(signal, "pthread_sigmask"):
            # The launcher starts this process with these signals blocked.
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
        """The action of the earliest signal that was not returned yet; NONE if there is none."""
        return self._effects[self._pending.pop(0)] if self._pending else Action.NONE

    def stop_requested(self) -> bool:
        """Whether a signal that ends the run has not been handled yet."""
        stops = (Action.STOP, Action.PREEMPT)
        return any(self._effects[number] in stops for number in self._pending)

    @property
    def preempted(self) -> bool:
        """Whether SIGTERM has arrived."""
        return self._preempted

    def _forked(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._catch:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._preempted = self._preempted or number == signal.SIGTERM
        if number not in self._pending:
            self._pending.append(number)
        elif number == signal.SIGINT and self._effects[number] is not Action.NONE:
            raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside of it SIGINT waits, where it would raise KeyboardInterrupt; it is raised at the end.

    In scripts and notebooks the interrupted work is often continued. Other handlers stay.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    arrived: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if arrived:
        raise KeyboardInterrupt
