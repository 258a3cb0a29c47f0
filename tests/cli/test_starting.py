"""Loading of libraries: what a terminal shows meanwhile, and garbage collection."""

from __future__ import annotations

import gc
import importlib
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from caffecompat.cli import starting
from caffecompat.cli.starting import slow_loading_reported


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library that is being imported; the waiting times are short."""
    for name, value in {"_FIRST": 0.05, "_NEXT": 0.05, "_TICK": 0.01}.items():
        monkeypatch.setattr(starting, name, value)
    monkeypatch.setattr(starting, "_LIBRARY", "slow_library")
    module = ModuleType("slow_library")
    vars(module)["__spec__"] = SimpleNamespace(_initializing=True)
    monkeypatch.setitem(sys.modules, "slow_library", module)
    return module


def test_a_slow_import_is_reported(library: ModuleType) -> None:
    stream = Terminal()
    with slow_loading_reported(stream):
        wait_for(lambda: stream.getvalue().count("\n") >= 2)
        vars(library)["__spec__"]._initializing = False
        time.sleep(0.1)
        notes_on_dialect = stream.getvalue()
        time.sleep(0.3)
    assert notes_on_dialect.count("caffecompat: loading slow_library for 0 s\n") >= 2
    assert stream.getvalue() == notes_on_dialect


def test_a_slow_import_is_reported_on_the_first_terminal_only(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, terminal = io.StringIO(), Terminal()
    with slow_loading_reported(stream):
        time.sleep(0.3)
    monkeypatch.setenv("RANK", "1")
    with slow_loading_reported(terminal):
        time.sleep(0.3)
    assert stream.getvalue() == terminal.getvalue() == ""


def test_nothing_is_said_where_no_library_is_loaded(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "slow_library")
    stream = Terminal()
    with slow_loading_reported(stream):
        time.sleep(0.3)
    assert stream.getvalue() == ""


def test_torch_is_loaded_without_collections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instead_of_torch.py").write_text("import gc\nenabled = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(starting, "_LIBRARY", "instead_of_torch")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    finders = list(sys.meta_path)
    starting.LoadedWithoutCollections().insert()
    module = importlib.import_module("instead_of_torch")
    assert not module.enabled
    assert gc.isenabled()
    assert sys.meta_path == finders
    starting.LoadedWithoutCollections().insert()
    assert sys.meta_path == finders, "it is loaded already"
    monkeypatch.delitem(sys.modules, "instead_of_torch")
