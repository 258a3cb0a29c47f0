"""Fixtures of the solver's tests."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from caffecompat.reporting.glog import LOGGER

from .caffe_log import Lines


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The nets here are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
