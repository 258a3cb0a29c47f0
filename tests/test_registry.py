"""The registry: entries found by presence, duplicates and unknown names answered in words."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffecompat.errors import CaffeError, UnknownName
from caffecompat.registry import Registry


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[object]]:
    """A registry over a package in a temporary folder with one file, ``lion.py``."""
    package = tmp_path / "zoo_for_tests"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from caffecompat.registry import Registry\nanimals = Registry('animal', 'zoo_for_tests')\n"
    )
    (package / "lion.py").write_text(
        "from zoo_for_tests import animals\n\n@animals.register('Lion')\nclass Lion:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("zoo_for_tests")
    yield module.animals
    for name in [n for n in sys.modules if n.startswith("zoo_for_tests")]:
        del sys.modules[name]


def test_a_file_is_the_whole_addition(zoo: Registry[object], tmp_path: Path) -> None:
    (tmp_path / "zoo_for_tests" / "gnu.py").write_text(
        "from zoo_for_tests import animals\nanimals.register('Gnu')(object())\n"
    )
    assert list(zoo) == ["Gnu", "Lion"]


def test_unknown_name_offers_the_nearest(zoo: Registry[object]) -> None:
    with pytest.raises(
        UnknownName, match=r"unknown animal 'lionn' in a\.txt:3; did you mean 'Lion'"
    ):
        zoo.find("lionn", "a.txt:3")


def test_unknown_name_lists_all_when_nothing_is_near(zoo: Registry[object]) -> None:
    with pytest.raises(UnknownName, match="known: Lion"):
        zoo.find("walrus")


def test_duplicate_names_both_places(zoo: Registry[object]) -> None:
    assert "Lion" in zoo

    class Other:
        pass

    with pytest.raises(CaffeError, match=r"registered twice.*zoo_for_tests\.lion.*Other"):
        zoo.register("Lion")(Other)
