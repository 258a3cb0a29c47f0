"""Each layer class against values recorded from BVLC Caffe 1.0."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.layers import Source, catalogue
from tests.layers.single import Replay, read_case
from tests.layers.strategies import ELSEWHERE

COPIES = Path(__file__).resolve().parent / "copies" / "layers"

# Cases that record what follows from Caffe's implementation alone, and that we do not follow.
EXCEPTIONS = {
    "BNLL/quirk_inplace_gradient": "takes its gradient from overwritten values",
    "Clip/quirk_inplace_gradient": "takes its gradient from overwritten values",
    "LSTMUnit/quirk_fractional_cont": "derives a gate as if cont were part of it",
    "Power/inplace": "forgets the gradient from above: it overwrites it with scale, then squares",
    "Power/quirk_cube_at_zero_nan": "divides by the bottom, which is 0",
}


def replay(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The differences of one case."""
    monkeypatch.chdir(path.parents[1])  # files named in a prototxt are found from there
    return Replay(read_case(path)).run()


def test_every_type_has_a_recorded_case() -> None:
    sources = {name for name in catalogue if issubclass(catalogue.find(name), Source)}
    own = {name for name in catalogue if catalogue.find(name).__module__.startswith("caffecompat")}
    expected = own - sources - set(ELSEWHERE)
    missing = sorted(name for name in expected if not any((COPIES / name).glob("*.npz")))
    assert not missing, f"no case in tests/recorded/copies/layers for: {', '.join(missing)}"


@pytest.mark.parametrize(
    "path", sorted(COPIES.glob("*/*.prototxt")), ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_copied_case(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not replay(path, monkeypatch)


@pytest.mark.parametrize(
    "case", ["basic", "cont_breaks", "expose_hidden", "state_carried_over", "x_4d"]
)
@pytest.mark.parametrize("type_name", ["LSTM", "RNN"])
def test_case_in_runs(
    type_name: str, case: str, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded sequences are too short for torch's operators unless made to go through them."""
    layer = f"caffecompat.layers.recurrent.{type_name}"
    monkeypatch.setattr(f"{layer}.min_run_length", 0)
    monkeypatch.delattr(f"{layer}.step")
    assert not replay(golden / "layers" / type_name / f"{case}.prototxt", monkeypatch)


@pytest.mark.parametrize("type_name", sorted(catalogue))
def test_all_cases(type_name: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    differences = {}
    for path in sorted((golden / "layers" / type_name).glob("*.prototxt")):
        found = replay(path, monkeypatch)
        if f"{type_name}/{path.stem}" in EXCEPTIONS:
            assert found, f"{path.stem} is listed as an exception, but it passes"
        elif found:
            differences[path.stem] = found
    assert not differences
