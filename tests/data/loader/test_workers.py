"""The number of threads follows the cores that this rank may use."""

from __future__ import annotations

import os

import pytest

from caffecompat.data.loader.workers import usable_cores


@pytest.mark.parametrize(
    ("cores", "ranks", "threads"),
    [(4, "1", 4), (4, "2", 2), (4, "8", 1), (64, "1", 16), (4, "", 4)],
)
def test_usable_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, ranks: str, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert usable_cores() == threads
