"""Garbage collection, signal handlers, and a line about slow imports, while torch is loaded."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType, TracebackType
from typing import Any, TextIO

from caffecompat.garbage_collection import collections_paused
from caffecompat.reporting.terminal import is_terminal

STOP, SNAPSHOT = "stop", "snapshot"

_LIBRARY = "torch"
# Seconds until the first line about a library that is being loaded, and between later ones.
_FIRST, _NEXT = 2.0, 10.0
_TICK = 0.1


@contextlib.contextmanager
def slow_loading_reported(stream: TextIO) -> Iterator[None]:
    """Context that prints a line to ``stream``, if it is a terminal, while torch loads slowly.

    Of several ranks only the first prints. The thread that prints ends once torch is loaded.
    """
    if not is_terminal(stream) or os.environ.get("RANK", "0") != "0":
        yield
        return
    over = threading.Event()
    thread = threading.Thread(
        target=_tell, args=(stream, over), name="caffecompat-loading", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1)


def _tell(stream: TextIO, over: threading.Event) -> None:
    since: float | None = None
    due = 0.0
    while not over.wait(_TICK):
        now = time.monotonic()
        library = sys.modules.get(_LIBRARY)
        if library is not None and not _is_loading(library):
            return
        if library is None:
            continue
        if since is None:
            since, due = now, now + _FIRST
        if now >= due:
            due = now + _NEXT
            with contextlib.suppress(OSError, ValueError):
                print(f"caffecompat: loading {_LIBRARY} for {now - since:.0f} s", file=stream)


def _is_loading(library: Any) -> bool:
    return bool(getattr(getattr(library, "__spec__", None), "_initializing", False))


class LoadedWithoutCollections:
    """A finder for ``sys.meta_path`` that pauses garbage collection while torch is loaded.

    Nothing of what the import makes is garbage, and looking for it takes a tenth of its time.
    What is there afterwards is also left out of all later collections.
    """

    def insert(self) -> None:
        """Takes effect if torch is not loaded yet."""
        if _LIBRARY not in sys.modules:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of torch, whose execution is wrapped; None for all other modules."""
        if name != _LIBRARY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None or not gc.isenabled():
            return spec
        execute = spec.loader.exec_module

        def execute_without_collections(module: ModuleType) -> None:
            with collections_paused():
                execute(module)
                gc.freeze()

        spec.loader.exec_module = execute_without_collections  # type: ignore[method-assign]
        return spec


class SignalsAtStart:
    """Handles SIGINT, SIGHUP and SIGTERM before there is anything to snapshot (a context manager).

    A stop ends the process at once with one sentence: an exception would interrupt unfinished
    imports. Once a training has handlers of its own they replace these. After :meth:`finish`
    signals are ignored, since the exit code is decided. Nothing here loads torch.

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
                # Only the main thread may set handlers; in others signals stay as they are.
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
