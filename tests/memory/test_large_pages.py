"""Weights in pages of 2 MB."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable

import pytest

from caffecompat import large_pages as module
from caffecompat.large_pages import (
    LARGE,
    LargePages,
    collapse,
    large_pages,
)
from tests.inference.engine_nets import assert_near, built, outputs
from tests.inference.small_net import SMALL
from tests.programs import run_program

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a call of Linux")


@LINUX
def test_memory_that_is_written_moves() -> None:
    with block_of(3) as block:
        pattern = bytes(range(256)) * (3 * LARGE // 256)
        # An older kernel refuses; in no case do the contents change.
        with large_pages() as pages:
            block.write(pattern)
        assert pages.bytes % LARGE == 0
        assert block[:] == pattern
        start = address_of(block)
        page = -(-start // LARGE) * LARGE
        assert module._whole_pages([(start, start + 3 * LARGE)])[:2] == [page, page + LARGE]
        moved = collapse([(start, start + 3 * LARGE)])
        assert moved in (0, LARGE * ((start + 3 * LARGE - page) // LARGE))
        assert block[:] == pattern


def block_of(count: int) -> mmap.mmap:
    """Fresh memory of so many large pages."""
    return mmap.mmap(-1, count * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def address_of(block: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(block))


@LINUX
def test_all_memory_moves() -> None:
    """In a process of its own, since that of the tests is large."""
    result = run_program(["-c", ALL])
    assert result.returncode == 0, result.stderr
    before, after = result.stdout.split()
    assert int(before) > 0
    assert int(after) in (0, int(before))


# Prints the bytes of large pages that a filled array takes, and how many of them have moved.
ALL = """
import numpy as np
from caffecompat import large_pages as module
values = np.arange(1 << 23, dtype=np.uint64)
first = values.ctypes.data
whole = module._whole_pages([(first, first + values.nbytes)])
moved = module.collapse_memory()
assert np.array_equal(values, np.arange(1 << 23, dtype=np.uint64))
in_all = module.LARGE * len(module._whole_pages(module._mappings()))
print(module.LARGE * len(whole), moved.bytes and module.LARGE * len(whole))
assert moved.bytes % module.LARGE == 0 and moved.bytes <= in_all
"""


@LINUX
def test_memory_that_is_not_there_does_not_come() -> None:
    with block_of(2) as block:
        address = address_of(block)
        assert collapse([(address, address + 2 * LARGE)]) == 0


@LINUX
def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    moved: list[int] = []

    def collapsed(pages: Iterable[int]) -> int:
        moved.append(len(list(pages)))
        return LARGE

    monkeypatch.setattr(module, "_collapse", collapsed)
    subject = built(SMALL)
    wanted = outputs(subject)
    made = subject.optimize("onnxruntime")
    assert made is not None
    assert made.lines[-1] == "moved 2 MB to pages of 2 MB"
    assert_near(outputs(subject), wanted, 1e-5)
    assert len(moved) == 1
    made = subject.optimize("onnxruntime", large_pages=False)
    assert made is not None
    assert len(moved) == 1
    assert str(LargePages()) == ""
    with large_pages(wanted=False) as pages:
        pass
    assert pages.bytes == 0
