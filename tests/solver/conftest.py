"""Fixtures of the solver's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.solver.distributed.rank_processes import RankProcesses


@pytest.fixture(scope="session")
def rank_processes() -> Iterator[RankProcesses]:
    """Carries out trainings of several processes."""
    started = RankProcesses()
    yield started
    started.close()
