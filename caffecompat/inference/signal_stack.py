"""The stack on which the handlers of signals run.

OpenVINO gives the thread that loads its CPU plugin a stack of its own for them, since the registers
of AMX need more room, and frees that memory with the plugin. Python's handlers ask for such a
stack: the next signal, such as that of Ctrl-C, would end the process by a segmentation fault.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Context after which this thread's stack for signal handlers is the one from before, or none.

    It does nothing on systems other than Linux.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    before = _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
