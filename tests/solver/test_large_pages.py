"""The memory of a training in pages of 2 MB."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.large_pages import LARGE, LargePages
from caffecompat.solver import Solver
from caffecompat.solver import large_pages as module
from tests.solver.small import write_training


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that the memory of the process would move."""
    made: list[int] = []

    def moved() -> LargePages:
        made.append(LARGE)
        return LargePages(3 * LARGE)

    monkeypatch.setattr(module, "collapse_memory", moved)
    monkeypatch.setattr(module, "UPDATES", 3)
    return made


def test_a_large_net_moves_once(
    tmp_path: Path,
    moves: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "LEAST", 1000)
    caplog.set_level(logging.INFO)
    solver = Solver(write_training(tmp_path / "run"))
    solver.step(2)
    assert moves == []
    solver.step(1)
    assert len(moves) == 1
    assert "For speed: moved 6 MB to pages of 2 MB (--no-large-pages leaves them out)." in (
        caplog.messages
    )
    solver.step(4)
    assert len(moves) == 1


def test_a_small_net_stays(tmp_path: Path, moves: list[int]) -> None:
    Solver(write_training(tmp_path / "run")).step(4)
    assert moves == []


def test_the_switch(tmp_path: Path, moves: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 1)
    path = write_training(tmp_path / "run")
    Solver(path, large_pages=False).step(4)
    assert main(["train", "--solver", str(path), "--no-large-pages"]) == 0
    assert moves == []
    assert main(["train", "--solver", str(path)]) == 0
    assert len(moves) == 1


def test_a_kernel_without_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(module, "UPDATES", 3)
    monkeypatch.setattr(module, "collapse_memory", LargePages)
    caplog.set_level(logging.INFO)
    Solver(write_training(tmp_path / "run")).step(4)
    assert not [line for line in caplog.messages if "pages" in line]
