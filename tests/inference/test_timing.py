"""Programs are measured in turns, with inputs like the net's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from caffecompat.inference import timing
from tests.export.passes.models import net_text
from tests.inference.engine_nets import SHAPE
from tests.inference.small_net import SMALL
from tests.net.nets import net


def test_the_choice_ends_early_for_programs_that_are_clearly_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {"quick": 1.0, "near": 1.2, "slow": 2.0}
    now, passes = [0.0], dict.fromkeys(seconds, 0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def program(name: str) -> Callable[[Sequence[torch.Tensor]], None]:
        def run(feeds: Sequence[torch.Tensor]) -> None:
            now[0] += seconds[name]
            passes[name] += 1

        return run

    programs = {name: program(name) for name in seconds}
    found = timing.least_seconds(programs, [], seconds=1000)
    assert found == pytest.approx(seconds)
    every = 1 + timing.CHOICE_TURNS
    assert passes == {"quick": every, "near": every, "slow": 1 + timing.LEAST_TURNS}
    timing.least_seconds(programs, [], seconds=0)
    assert passes["quick"] == every + 1 + timing.LEAST_CHOICE_TURNS


def test_turns_are_taken_by_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_BURST", 0)
    order: list[str] = []

    def work(name: str) -> Callable[[], object]:
        return lambda: order.append(name)

    times = timing.turns({"a": work("a"), "b": work("b")}, least=3, seconds=0)
    # The turn that does not count, then forth, back, and forth, with two passes of each.
    assert order == ["a", "b", *"bbaa", *"bbaa", *"bbaa"]
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}
    own: Sequence[float] = timing.turns({"c": lambda: 1.5}, least=2, seconds=0)["c"]
    assert own == [1.5, 1.5]
    nothing: dict[str, Callable[[], object]] = {}
    assert timing.turns(nothing) == {}


def test_the_last_of_several_passes_counts_and_in_a_choice_the_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: None)
    # The pass that does not count, then two turns: 20 ms after the first pass of each are over
    # after the third pass of one and the fourth of the other.
    seconds = [0.5, 0.03, 0.004, 0.018, 0.009, 0.005, 0.011, 0.007]
    left: list[float] = []

    def run(*_: object) -> None:
        now[0] += left.pop(0)

    left[:] = seconds
    assert timing.turns({"a": run}, least=2, most=2, clock=timing.time.perf_counter) == {
        "a": pytest.approx([0.018, 0.007])
    }
    left[:] = seconds
    monkeypatch.setattr(timing, "CHOICE_TURNS", 2)
    assert timing.least_seconds({"a": run}, []) == {"a": pytest.approx(0.004)}
    # Long passes are done twice in a turn, and once in a choice.
    left[:] = [0.5, 0.25, 0.2, 0.3, 0.26]
    assert timing.turns({"a": run}, least=2, most=2, clock=timing.time.perf_counter) == {
        "a": pytest.approx([0.2, 0.26])
    }
    left[:] = [0.5, 0.25, 0.3]
    assert timing.least_seconds({"a": run}, []) == {"a": pytest.approx(0.25)}


def test_example_inputs_have_the_stated_shapes() -> None:
    subject = net(net_text(SHAPE, *SMALL))
    (plain,) = timing.example_feeds(subject)
    (stated,) = timing.example_feeds(subject, {"data": (5, 4, 9, 7)})
    assert plain.shape == SHAPE
    assert stated.shape == (5, 4, 9, 7)
