"""Nets, most of one layer, against what BVLC Caffe 1.0 recorded: values, gradients, statistics."""

from __future__ import annotations

import pytest

from caffecompat.layers import Source, catalogue
from caffecompat.net.analysis.replay import replay
from caffecompat.net.shapes import top_shapes
from tests.layers.strategies import ELSEWHERE
from tests.net.shapes.checked import CheckedShapes
from tests.places import COPIES
from tests.recorded.cases import Case
from tests.recorded.exceptions import assert_agrees
from tests.recorded.tolerances import too_far


@pytest.fixture(autouse=True)
def shape_rules_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_shapes, "OperatorShapes", CheckedShapes)


def assert_replays(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    # Paths inside a recorded prototxt are relative to the folder of all cases.
    monkeypatch.chdir(case.path.parents[1])
    differences = replay(case.path)
    assert differences, "the record has no array to compare"
    layer_type = case.path.parent.name
    assert_agrees(case.name, [d for d in differences if too_far(d, layer_type)])


@pytest.mark.recorded_cases("layers")
def test_layer(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_replays(case, monkeypatch)


@pytest.mark.recorded_cases("layers in runs")
def test_sequence_in_runs(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded sequences are too short for torch's operators unless made to go through them."""
    name = case.path.parent.name
    layer = f"caffecompat.layers.{name.lower()}.{name}"
    monkeypatch.setattr(f"{layer}.min_run_length", 0)
    monkeypatch.delattr(f"{layer}.step")
    assert_replays(case, monkeypatch)


def test_every_type_has_a_case_among_the_copies() -> None:
    sources = {name for name in catalogue if issubclass(catalogue.find(name), Source)}
    own = {
        name
        for name in catalogue
        if catalogue.find(name).__module__.startswith("caffecompat")
        and not catalogue.find(name).fork
    }
    expected = own - sources - set(ELSEWHERE)
    missing = sorted(name for name in expected if not any((COPIES / "layers" / name).glob("*.npz")))
    assert not missing, f"no case in tests/recorded/copies/layers for: {', '.join(missing)}"
