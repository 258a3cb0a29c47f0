"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from caffecompat.reporting.glog import LOGGER
from tests.places import REPOSITORY
from tests.solver.caffe_log import Lines


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of values recorded from BVLC Caffe 1.0, where a developer has it."""
    folder = REPOSITORY.parent / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip("the full set of recorded values of BVLC Caffe is not beside this checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Most nets here are so small that threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged during a test, in Caffe's format."""
    handler = Lines()
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(level)


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Copies a folder of recorded files and makes the copy the current folder."""

    def enter_copy(folder: Path) -> Path:
        copy = tmp_path / folder.name
        shutil.copytree(folder, copy)
        shared = folder.parent / "_data"
        if shared.is_dir():
            shutil.copytree(shared, tmp_path / "_data")
        for path in [*tmp_path.rglob("*"), tmp_path]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        monkeypatch.chdir(copy)
        return copy

    return enter_copy
