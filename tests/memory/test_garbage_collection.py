"""Work without garbage collection."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffecompat import Net
from caffecompat.errors import CaffeError
from caffecompat.first_use import names_at_first_use
from caffecompat.garbage_collection import collections_paused
from tests.net.nets import net

DEEP = 'layer { name: "x0" type: "Input" top: "x0" input_param { shape { dim: 2 } } }' + "".join(
    f'layer {{ name: "r{i}" type: "ReLU" bottom: "x{i}" top: "x{i + 1}" }}' for i in range(200)
)


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    """Garbage collection is on at the start, and at the end whatever a test has done."""
    gc.enable()
    yield
    gc.enable()


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations of the collections since the beginning of a test, as often as by default."""
    found: list[int] = []
    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, 10)

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    gc.set_threshold(*thresholds)


def test_it_is_on_again_afterwards() -> None:
    with collections_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_on_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), collections_paused():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_program_that_has_switched_it_off_keeps_it_off() -> None:
    gc.disable()
    with collections_paused():
        pass
    assert not gc.isenabled()


def test_nothing_is_collected_while_a_net_is_built(collections: list[int]) -> None:
    message = net(DEEP).definition
    collections.clear()
    made = Net(message)
    assert len(made.layers) == 201
    # One may follow at once, since there are many new objects; there were nine.
    assert len(collections) <= 1


def test_a_net_that_cannot_be_built_switches_it_on_again() -> None:
    with pytest.raises(CaffeError):
        net(DEEP + 'layer { name: "last" type: "ReLU" bottom: "missing" top: "last" }')
    assert gc.isenabled()


def test_nothing_is_collected_while_a_name_is_imported_at_its_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "imported_without_collections"
    (tmp_path / f"{name}.py").write_text("import gc\ncollected = gc.isenabled()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert names_at_first_use("package", {"collected": name})("collected") is False
    finally:
        sys.modules.pop(name, None)
    assert gc.isenabled()
