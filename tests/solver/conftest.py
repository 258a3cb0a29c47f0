"""Fixtures of the solver's tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.solver.distributed.rank_processes import RankProcesses
from tests.solver.passes.played_back import play_back


@pytest.fixture(scope="session")
def rank_processes() -> Iterator[RankProcesses]:
    """Carries out trainings of several processes."""
    started = RankProcesses()
    yield started
    started.close()


@pytest.fixture(scope="module")
def only_own_objects() -> None:
    """Makes the collections below look at the objects of a module's own tests alone."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def played(only_own_objects: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trainings on the CPU that go the way of those on a GPU."""
    play_back(monkeypatch)
    yield
    # Ends the data threads of the trainings, which the stand-in keeps in a circle.
    gc.collect()
