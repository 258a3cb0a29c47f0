"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of values recorded from BVLC Caffe 1.0, where a developer has it."""
    folder = REPOSITORY.parent / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip("the full set of recorded values of BVLC Caffe is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The small recorded cases and files that travel with the tests."""
    return REPOSITORY / "tests" / "data"
