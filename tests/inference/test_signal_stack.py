"""Signals after a library has left its own stack for their handlers."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys

import numpy as np
import pytest

from caffecompat.inference.signal_stack import _SignalStack, kept_signal_stack
from tests.net.nets import CLASSIFIER, net

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has it")

SIZE = 1 << 16


def stack_now() -> tuple[int | None, int]:
    found = _SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found.address, found.size


def test_the_stack_is_that_from_before() -> None:
    before = stack_now()
    memory = mmap.mmap(-1, SIZE)
    view = (ctypes.c_char * SIZE).from_buffer(memory)
    with kept_signal_stack():
        own = _SignalStack(ctypes.addressof(view), 0, SIZE)
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(own), None) == 0
        assert stack_now() == (ctypes.addressof(view), SIZE)
    assert stack_now() == before
    del view
    memory.close()
    handled: list[int] = []
    previous = signal.signal(signal.SIGHUP, lambda number, frame: handled.append(number))
    try:
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert handled == [signal.SIGHUP]


@pytest.mark.parametrize("engine", ["openvino", "openvino-parts"])
def test_openvino_leaves_none_behind(engine: str) -> None:
    """It does so for one of its threads, which may be the one that calls it."""
    pytest.importorskip("openvino")
    before = stack_now()
    subject = net(CLASSIFIER)
    subject.optimize(engine)
    assert stack_now() == before
    shape = next(iter(subject.blobs.values())).shape
    for size in (1, 3):
        subject.forward(data=np.zeros((size, *shape[1:]), np.float32))
    assert stack_now() == before
    subject.optimize(None)
    assert stack_now() == before
