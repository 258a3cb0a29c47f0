"""SIGINT at each line of the package that a call runs, one after the other."""

from __future__ import annotations

import dis
import inspect
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import caffecompat
from caffecompat.garbage_collection import collections_paused

PACKAGE = str(Path(caffecompat.__file__).parent) + os.sep


@cache
def _ends_of_with(code: CodeType) -> frozenset[int]:
    """The offsets at which ``with`` statements call ``__exit__``.

    Python handles no signal there, but a trace function that raises would leave that call out.
    """
    found = list(dis.get_instructions(code))
    return frozenset(
        first.offset
        for first, second, third in zip(found, found[1:], found[2:], strict=False)
        if (first.opname, first.argval) == ("LOAD_CONST", None)
        and second.opname in ("LOAD_CONST", "DUP_TOP")
        and (second.opname, second.argval) == (third.opname, third.argval)
    )


class Interrupts:
    """Interrupts calls at the first line that it has not tried yet.

    It tries every third line, with ``CAFFECOMPAT_THOROUGH=1`` all, and also where functions return.

    Args:
        part: which of the lines, 0 to 2.
        whole: end of the name of a file of which it tries all.
        times: how often a line is tried that a call runs more often, such as for a second layer or
            in a second pass.
    """

    def __init__(self, part: int, times: int = 1, whole: str = "solver/solver.py") -> None:
        self._thorough = os.environ.get("CAFFECOMPAT_THOROUGH") == "1"
        self._times = 2 if self._thorough else times
        self._part = part
        self._whole = whole
        self._tried: set[tuple[str, int, str, int]] = set()
        self.place = ""

    def during(self, work: Callable[[], object]) -> bool:
        """Calls ``work`` with one SIGINT; False if there was no line left to try.

        The attribute ``place`` then names the line.
        """
        self.place = ""
        seen: Counter[tuple[str, int, str]] = Counter()

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            name = frame.f_code.co_filename
            if self.place or not name.startswith(PACKAGE):
                return None
            every = self._thorough or name.endswith(self._whole)
            if not every and frame.f_lineno % 3 != self._part:
                return trace
            # Python tells nobody of an exception in a generator that is thrown away.
            plain = not frame.f_code.co_flags & inspect.CO_GENERATOR
            taken = event == "line" or (event == "return" and plain and self._thorough)
            if taken and frame.f_lasti not in _ends_of_with(frame.f_code):
                where = (name, frame.f_lineno, event)
                seen[where] += 1
                tried = (*where, seen[where])
                if seen[where] <= self._times and tried not in self._tried:
                    self._tried.add(tried)
                    self.place = f"{name.removeprefix(PACKAGE)}:{frame.f_lineno}, {event}"
                    signal.raise_signal(signal.SIGINT)
            return trace

        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        before = sys.gettrace()
        # A collection would end the data threads of an earlier test's solver within these lines,
        # and Python tells nobody of an exception there.
        with collections_paused():
            sys.settrace(trace)
            try:
                work()
            except KeyboardInterrupt:
                assert self.place
            else:
                assert not self.place, f"no KeyboardInterrupt after SIGINT at {self.place}"
            finally:
                sys.settrace(before)
        return bool(self.place)
