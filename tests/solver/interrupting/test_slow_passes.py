"""Passes that take long: they say where they are, and a stop leaves them without any effect."""

from __future__ import annotations

import gc
import logging
import time
import weakref
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from caffecompat.reporting.activity import Activity, ReportSchedule, Task, heartbeat
from caffecompat.reporting.glog import LOGGER
from caffecompat.reporting.units import duration
from caffecompat.solver import Action, Solver
from caffecompat.solver.reporters.remaining_time import RemainingTime
from tests.solver.log.caffe_log import Lines
from tests.solver.small import write_training


def values(solver: Solver) -> list[torch.Tensor]:
    return [entry.tensor.detach().clone() for entry in solver.net.learnable]


def all_equal(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, ones, others))


def stop_at(solver: Solver, wanted: Callable[[str], bool], action: Action) -> list[str]:
    """Asks ``solver`` to stop in the first ``wanted`` layer; returns the layers it enters."""
    seen: list[str] = []
    answers: list[Action] = []

    def stop_requested() -> bool:
        seen.append(solver.activity.layer)
        if wanted(solver.activity.layer) and not answers:
            answers.append(action)
        return bool(answers)

    solver.stop_requested = stop_requested
    solver.requested = lambda: answers.pop() if answers else Action.NONE
    return seen


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass counts as a slow one."""
    monkeypatch.setattr("caffecompat.net.execution.layer_watch._SLOW", 0.0)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("layer", ["forward, layer 'score'", "backward, layer 'conv'"])
def test_a_stop_leaves_the_last_iterations_weights(layer: str, tmp_path: Path) -> None:
    """Running statistics, which the pass has changed already, too; and all can go on."""
    path = write_training(tmp_path)
    solver, whole = Solver(path), Solver(path)
    solver.step(3)
    whole.step(3)
    expected = values(whole)
    stop_at(solver, lambda at: at == layer, Action.STOP)
    solver.step(5)
    assert (solver.iter, solver.stopped) == (3, True)
    assert all_equal(values(solver), expected)
    solver.stop_requested = lambda: False
    solver.step(2)
    whole.step(2)
    assert solver.iter == 5
    assert all_equal(values(solver), values(whole))


@pytest.mark.usefixtures("slow")
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = Solver(write_training(tmp_path / "whole"))
    whole.solve()
    path = write_training(tmp_path / "run")
    solver = Solver(path)
    count = iter(range(100))
    stop_at(solver, lambda at: "'relu'" in at and next(count) == 11, Action.PREEMPT)
    solver.solve()
    assert solver.preempted
    assert 0 < solver.iter < 12
    resumed = Solver(path, snapshot="auto")
    assert resumed.iter == solver.iter
    resumed.solve()
    assert all_equal(values(resumed), values(whole))


def test_the_first_pass_is_watched_and_fast_ones_are_not(tmp_path: Path) -> None:
    solver = Solver(write_training(tmp_path))
    seen = stop_at(solver, lambda at: False, Action.STOP)
    solver.step(1)
    train = [at for at in seen if "'accuracy'" not in at]
    for at in ("forward, layer 'conv'", "backward, layer 'loss'", "backward, layer 'conv'"):
        assert at in train
    seen.clear()
    solver.step(3)
    assert seen == []
    assert not any(built.module._forward_pre_hooks for built in solver.net.layers if built.module)


@pytest.mark.usefixtures("slow")
def test_a_solver_that_is_dropped_frees_its_nets(tmp_path: Path) -> None:
    def trained() -> list[weakref.ref[torch.nn.Module]]:
        with closing(Solver(write_training(tmp_path))) as solver:
            solver.step(1)
            solver.test_all()
            return [weakref.ref(net) for net in (solver.net, *solver.test_nets)]

    nets = trained()
    gc.collect()
    assert [net() for net in nets] == [None, None]


def test_a_stop_in_a_test(tmp_path: Path, lines: Lines) -> None:
    solver = Solver(write_training(tmp_path))
    stop_at(solver, lambda at: "'accuracy'" in at, Action.STOP)
    solver.step(3)
    assert (solver.iter, solver.stopped) == (0, True)
    assert lines.containing("Test interrupted.")


@pytest.mark.usefixtures("slow")
def test_a_snapshot_does_not_disturb_a_pass(tmp_path: Path) -> None:
    solver = Solver(write_training(tmp_path))
    requests = [Action.SNAPSHOT]
    solver.requested = lambda: requests.pop() if requests else Action.NONE
    solver.step(2)
    assert (solver.iter, solver.stopped) == (2, False)


def test_when_a_line_is_due() -> None:
    schedule = ReportSchedule()
    moment = Task("iteration 0", "", 100.0)
    due = [t for t in range(100, 2000) if schedule.is_due(moment, float(t))]
    assert due[:4] == [102, 112, 122, 132]
    gaps = [b - a for a, b in pairwise(due)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60
    assert not schedule.is_due(Task("iteration 1", "", 2000.0), 2001.0)
    assert schedule.is_due(Task("iteration 1", "", 2000.0), 2002.0)
    assert not schedule.is_due(None, 5000.0)


def test_a_heartbeat(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setattr("caffecompat.reporting.activity._FIRST_DELAY", 0.0)
    monkeypatch.setattr("caffecompat.reporting.activity._SECONDS_PER_POLL", 0.01)
    activity, seen = Activity(), list[Task]()
    with heartbeat(activity, LOGGER, lambda moment, now: seen.append(moment)):
        activity.begin("iteration", 3)
        activity.layer = "forward, layer 'conv'"
        deadline = time.monotonic() + 20
        while not (seen and lines.containing("Working on")) and time.monotonic() < deadline:
            time.sleep(0.01)
        activity.end()
    assert seen[0].what == "iteration 3"
    (line,) = lines.containing("Working on iteration 3 for 0 s")
    assert "layer 'conv'" in line or line.endswith("0 s")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("caffecompat.solver.reporters.remaining_time.time", made)
    return made


class Trained:
    """As much of a solver as a forecast of time looks at."""

    def __init__(self, tests: int = 0, seconds: float = 0.0) -> None:
        self.iter = 0
        self.tests_made = tests
        self.seconds_testing = seconds


def told(solver: Any, clock: Clock, each: list[float], message: Any) -> list[str]:
    lines: list[str] = []
    log = logging.Logger("pace")
    log.info = lambda text, *more, **options: lines.append(str(text))  # type: ignore[method-assign]
    pace = RemainingTime(message, log)
    for seconds in each:
        clock.now += seconds
        solver.iter += 1
        pace.iterated(solver)
    return lines


def test_a_forecast_of_time(clock: Clock, tmp_path: Path) -> None:
    message = Solver(write_training(tmp_path))._message
    message.test_interval = 0
    message.max_iter = 370000
    (line,) = told(Trained(), clock, [137.0, 137.0], message)
    assert line == (
        "Forecast: the remaining 369999 iterations take about 587 days at this speed (137 s per "
        "iteration)"
    )
    # The first one loads and compiles; it does not count where the others are fast.
    (line,) = told(Trained(), clock, [9.0, *[0.5] * 40], message)
    assert "0.5 s per iteration" in line
    message.max_iter = 50
    assert told(Trained(), clock, [9.0, *[0.5] * 40], message) == []


def test_a_forecast_counts_tests(clock: Clock, tmp_path: Path) -> None:
    message = Solver(write_training(tmp_path))._message
    message.test_interval = 10
    message.max_iter = 1000
    (line,) = told(Trained(tests=1, seconds=36.0), clock, [36 + 30.0], message)
    # 999 iterations of 30 s, and 99 further tests of 36 s.
    assert f"take about {duration(999 * 30 + 99 * 36)} at this speed" in line
    assert "tests included" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.2, "1 second"),
        (59, "59 seconds"),
        (130, "2.17 minutes"),
        (7200, "2 hours"),
        (86400 * 5.4, "5.4 days"),
    ],
)
def test_spans_of_time(seconds: float, text: str) -> None:
    assert duration(seconds) == text


PYTHON = """
import caffe


class Counter(caffe.Layer):
    def setup(self, bottom, top):
        self.count = 0

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.count += 1
        top[0].data[...] = bottom[0].data * self.count

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff * self.count
"""


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("layer", "made"),
    [("forward, layer 'norm'", 3), ("forward, layer 'score'", 4), ("backward, layer 'conv'", 4)],
)
def test_a_python_layer_that_has_run_finishes_its_iteration(
    layer: str, made: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has changed in itself cannot be set back; before it runs the pass is left."""
    path = write_training(tmp_path)
    (tmp_path / "slow_passes_layer.py").write_text(PYTHON)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = tmp_path / "net.prototxt"
    python = (
        'layer { name: "count" type: "Python" bottom: "norm" top: "counted" '
        'python_param { module: "slow_passes_layer" layer: "Counter" } }\nlayer { name: "score"'
    )
    text = net.read_text().replace('layer { name: "score"', python)
    net.write_text(
        text.replace('"InnerProduct" bottom: "norm"', '"InnerProduct" bottom: "counted"')
    )
    solver = Solver(path, allow_python=True)
    whole = Solver(path, allow_python=True)
    solver.step(3)
    stop_at(solver, lambda at: at == layer, Action.STOP)
    solver.step(5)
    assert (solver.iter, solver.stopped) == (made, True)
    solver.stop_requested = lambda: False
    solver.step(6 - made)
    whole.step(6)
    assert all_equal(values(solver), values(whole))
