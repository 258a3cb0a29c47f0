"""Weights in pages of 2 MB."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from caffecompat.inference import large_pages as module
from caffecompat.inference.large_pages import (
    LARGE,
    LargePages,
    Range,
    _added,
    collapse,
    large_pages,
)
from tests.inference.test_engines import SMALL
from tests.inference.test_torch_engine import assert_near, built, outputs


def test_what_is_new_between_two_lists_of_mappings() -> None:
    size = module._LEAST_BYTES
    before = {(10 * size, 20 * size), (30 * size, 31 * size)}
    after = [
        (10 * size, 20 * size),
        (29 * size, 33 * size),
        (40 * size, 41 * size),
        (50 * size, 50 * size + 4096),
    ]
    assert _added(before, after) == [
        (29 * size, 30 * size),
        (31 * size, 33 * size),
        (40 * size, 41 * size),
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a call of Linux")
def test_memory_that_is_written_moves() -> None:
    block = mmap.mmap(-1, 3 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pattern = bytes(range(256)) * (3 * LARGE // 256)
    block.write(pattern)
    start = next(
        int(line.split("-")[0], 16)
        for line in Path("/proc/self/maps").read_text().splitlines()
        if _holds(line, block)
    )
    # An older kernel refuses; in no case do the contents change.
    assert collapse([(start, start + 3 * LARGE)]) in (0, LARGE, 2 * LARGE, 3 * LARGE)
    assert block[:] == pattern
    block.close()


def _holds(line: str, block: mmap.mmap) -> bool:
    import ctypes

    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    start, _, end = line.split()[0].partition("-")
    return int(start, 16) <= address < int(end, 16)


def test_memory_that_is_not_there_does_not_come() -> None:
    with mmap.mmap(-1, 2 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        import ctypes

        address = ctypes.addressof(ctypes.c_char.from_buffer(block))
        assert collapse([(address, address + 2 * LARGE)]) == 0


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    moved: list[int] = []

    def collapsed(ranges: Iterable[Range]) -> int:
        moved.append(len(list(ranges)))
        return LARGE

    monkeypatch.setattr(module, "collapse", collapsed)
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
