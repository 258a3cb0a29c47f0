"""Signals that come while a training is still loading its libraries."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType
from typing import Any

STOP, SNAPSHOT = "stop", "snapshot"


class SignalsAtStart:
    """Answers SIGINT, SIGHUP and SIGTERM before there is anything to snapshot (a context manager).

    A stop ends the process on the spot with one sentence: an exception would go through imports
    that are half done. Once a training has its own handlers they count; :meth:`finish` then makes
    signals that come after it be ignored, since its exit code is decided. Nothing here loads torch.

    Args:
        effects: what SIGINT and SIGHUP do: ``"stop"``, ``"snapshot"`` or ``"none"``.
        interrupted: exit code for a stop by SIGINT or SIGHUP.
        preempted: exit code for SIGTERM.
    """

    def __init__(self, effects: dict[str, str], interrupted: int, preempted: int) -> None:
        self._effects = {**effects, "SIGTERM": STOP}
        self._codes = {"SIGTERM": preempted}
        self._interrupted = interrupted
        self._previous: dict[int, Any] = {}
        self._finished = False

    def __enter__(self) -> SignalsAtStart:
        for name in self._effects:
            number = getattr(signal, name, None)
            if number is not None:
                # Only the main thread may; elsewhere signals stay as they are.
                with contextlib.suppress(ValueError):
                    self._previous[number] = signal.signal(number, self._answer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def finish(self) -> None:
        """From now on signals are ignored until the context ends."""
        self._finished = True

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if self._finished:
            return
        name = signal.Signals(number).name
        effect = self._effects[name]
        if effect == SNAPSHOT:
            _say(f"caffecompat: {name}: there is nothing to snapshot yet\n")
        elif effect == STOP:
            _say(f"caffecompat: error: stopped by {name} before the training had begun\n")
            os._exit(self._codes.get(name, self._interrupted))


def _say(text: str) -> None:
    """Writes past Python's buffers, which the interrupted code may be using."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
