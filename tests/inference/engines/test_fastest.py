"""The choice of the fastest engine, for the first inputs and for other sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from caffecompat import Net
from caffecompat.errors import NetError
from caffecompat.inference import timing
from caffecompat.inference.engines import fastest
from caffecompat.inference.engines.fastest import FastestProgram
from caffecompat.net.execution.inference import InferenceOptions, Optimization, inference_engines
from tests.inference.engine_nets import built
from tests.inference.small_net import SMALL, without


def test_the_fastest_is_the_one_with_the_least_time(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnxruntime", "openvino")
    subject = built(SMALL)
    made = subject.optimize()
    assert made is not None
    assert made.engine == "torch"
    text = str(made)
    assert "onnxruntime: not installed" in text
    assert "torch alone runs it" in text


class NamedProgram:
    """Returns its name instead of blobs."""

    def __init__(self, name: str) -> None:
        self.feeds: list[Any] = []
        self.versions: list[Any] = []
        self.name = name

    def __call__(self, feeds: Sequence[torch.Tensor]) -> Any:
        return self.name


def test_the_choice_of_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"torch": 3.0, "slow": 4.0, "quick": 0.002}

    def engine(name: str) -> Callable[[Net, InferenceOptions], Optimization]:
        program = NamedProgram(name)
        return lambda net, options: Optimization(name, "fp32", (f"made {name}",), program)

    monkeypatch.setattr(inference_engines, "_load", lambda: None)
    monkeypatch.setattr(inference_engines, "_entries", {n: engine(n) for n in times})
    monkeypatch.setattr(fastest, "least_seconds", lambda programs, feeds: times)
    made = fastest.optimize(built(SMALL), InferenceOptions(large_pages=False))
    assert made.engine == "quick"
    line = "quick is the fastest here, for inputs 2x4x9x7"
    assert made.lines[-3:] == ("quick: 2 ms", line, "made quick")


@pytest.mark.parametrize(
    ("precisions", "taken"),
    [
        ({"few": "bf16", "many": "bf16"}, "many"),
        ({"few": "bf16", "many": "fp32"}, "few"),
        ({"few": "int8", "many": "int8"}, "few"),
    ],
)
def test_other_sizes_take_engines_that_differ_by_rounding_alone(
    monkeypatch: pytest.MonkeyPatch, precisions: dict[str, str], taken: str
) -> None:
    def engine(name: str) -> Callable[[Net, InferenceOptions], Optimization]:
        return lambda net, options: Optimization(name, precisions[name], (), NamedProgram(name))

    def measured(programs: Any, feeds: Sequence[torch.Tensor]) -> dict[str, float]:
        rows = len(feeds[0])
        times = {"few": 1.0 + rows, "many": 3.0 + rows / 10}
        return {name: times[name] for name in programs}

    monkeypatch.setattr(inference_engines, "_load", lambda: None)
    monkeypatch.setattr(inference_engines, "_entries", {n: engine(n) for n in precisions})
    monkeypatch.setattr(fastest, "least_seconds", measured)
    made = fastest.optimize(built(SMALL), InferenceOptions())
    assert made.engine == "few"
    program: Any = made.program
    assert [program([torch.zeros(20, 4)]) for _ in range(3)][-1] == taken


def test_parts_are_measured_for_batches_and_small_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def engine(name: str) -> Callable[[Net, InferenceOptions], Optimization]:
        def optimize(net: Net, options: InferenceOptions) -> Optimization:
            asked.append(name)
            return Optimization(name, "fp32", (), NamedProgram(name))

        return optimize

    monkeypatch.setattr(inference_engines, "_load", lambda: None)
    entries = {name: engine(name) for name in ("one", "one-parts")}
    monkeypatch.setattr(inference_engines, "_entries", entries)
    one, few = {"data": (1, 4, 9, 7)}, {"data": (3, 4, 9, 7)}
    fastest.optimize(built(SMALL), InferenceOptions(shapes=one))
    assert asked == ["one", "one-parts"]
    monkeypatch.setattr(fastest, "_FEW_WEIGHTS", 10)
    fastest.optimize(built(SMALL), InferenceOptions(shapes=few))
    fastest.optimize(built(SMALL), InferenceOptions(shapes=one))
    assert asked[2:] == ["one", "one-parts", "one"]


def test_each_size_that_comes_often_has_its_own_fastest_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(programs: Any, feeds: Sequence[torch.Tensor]) -> dict[str, float]:
        rows = len(feeds[0])
        times = {"few": 1.0 + rows, "many": 5.0 + rows / 10, "hopeless": 99.0}
        return {name: times[name] for name in programs}

    monkeypatch.setattr(fastest, "least_seconds", measured)
    program: Any = FastestProgram({n: NamedProgram(n) for n in ("few", "many", "hopeless")})
    one, ten, nine = ([torch.zeros(rows, 4)] for rows in (4, 20, 19))
    assert program.choose(one)[0] == "few"
    program.drop_hopeless()
    # Until a size comes often it has the engine of the nearest one.
    assert [program(feeds) for feeds in (one, ten, ten, nine, ten, ten)] == ["few"] * 6
    assert not capsys.readouterr().err
    assert [program(feeds) for feeds in (ten, one, nine)] == ["many", "few", "many"]
    assert capsys.readouterr().err.splitlines() == [
        "measures few, many for inputs 20x4",
        "few: 2.1e+04 ms",
        "many: 7000 ms",
        "many is the fastest here, for inputs 20x4",
    ]


def test_an_engine_whose_passes_fail_is_not_taken() -> None:
    class Broken(NamedProgram):
        def __call__(self, feeds: Sequence[torch.Tensor]) -> Any:
            raise RuntimeError("out of memory\nhere")

    broken = Broken("broken")
    program: Any = FastestProgram({"broken": broken, "works": NamedProgram("works")})
    best, lines = program.choose([torch.zeros(2, 4)])
    assert (best, lines[0]) == ("works", "broken: its passes fail")
    program.drop_hopeless()
    assert program([torch.zeros(3, 4)]) == "works"
    with pytest.raises(NetError, match=r"no engine runs the net with such inputs: out of memory$"):
        timing.least_seconds({"broken": broken}, [])


def test_no_engine_has_the_precision() -> None:
    with pytest.raises(NetError, match="no engine runs the net so"):
        built(SMALL).optimize("fastest", precision="int8")
