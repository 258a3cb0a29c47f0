"""The trajectories of BVLC Caffe's solvers: rates, losses, parameters, gradients, histories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.solver import Solver
from tests.recorded.cases import Case
from tests.recorded.tolerances import assert_near
from tests.recorded.trajectories import Trajectory, quiet_solver
from tests.solver.log.caffe_log import Lines, assert_same_events


@pytest.mark.recorded_cases("trajectories")
def test_follows_caffe(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.path)
    Trajectory().follow(quiet_solver(tmp_path, weights="init.caffemodel"))


@pytest.mark.recorded_cases("resumed trajectories")
def test_resumes_from_a_state_of_caffe(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run follows the uninterrupted one, also where Caffe restarts its data."""
    monkeypatch.chdir(case.path)
    resume = case.facts["resume"]
    solver = quiet_solver(tmp_path, snapshot=resume["state"])
    assert solver.iter == resume["at"]
    Trajectory().follow(solver)


@pytest.mark.recorded_cases("displayed trajectories")
def test_display(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """Averaged losses, outputs and rates as ``caffe train`` printed them."""
    monkeypatch.chdir(case.path)
    quiet_solver(tmp_path, weights="init.caffemodel").solve()
    start = next(i for i, e in enumerate(lines.events) if e.startswith("Solving"))
    shown = [e for e in lines.events[start + 2 : -1] if not e.startswith("Snapshotting")]
    expected = [as_event(r) for r in case.facts["log"] if "snapshot" not in r]
    interval = next((e for e in shown if "iters" in e), "s/1 iters").split("s/")[1]
    expected = [e.replace("<interval>", interval.split(" ")[0]) for e in expected]
    assert_same_events(shown, expected)


def as_event(record: dict[str, Any]) -> str:
    """The line that a record was made from."""
    iteration = f"Iteration {record.get('iter')}"
    if "lr" in record:
        return f"{iteration}, lr = {record['lr']}"
    if "multistep" in record:
        return f"MultiStep Status: {iteration}, step = {record['multistep']}"
    if "clip_norm" in record:
        norm, limit, factor = record["clip_norm"], record["limit"], record["factor"]
        words = "Gradient clipping: scaling down gradients"
        return f"{words} (L2 norm {norm} > {limit}) by scale factor {factor}"
    if "train_output" in record:
        value, weight = record["value"], record["weight"]
        bracket = f" (* {weight} = {record['weighted']} loss)" if weight else ""
        number, name = record["train_output"], record["name"]
        return f"    Train net output #{number}: {name} = {value}{bracket}"
    speed = " (<rate> iter/s, <seconds>s/<interval> iters)" if record["timed"] else ""
    return f"{iteration}{speed}, loss = {record['loss']}"


@pytest.mark.recorded_cases("solver states")
def test_state(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restoring Caffe's own states of every type and format, then three more steps."""
    monkeypatch.chdir(case.path)
    facts = case.facts
    solver = quiet_solver(tmp_path, name=facts["solver"])
    solver.restore(facts["state"])
    assert solver.iter == facts["iter"]
    assert solver.current_step == facts["current_step"]
    compare_parameters(solver, np.load(facts["params"]))
    recorded = np.load(facts["history"])
    for array, key in zip(solver.history, recorded.files, strict=True):
        np.testing.assert_array_equal(array, recorded[key])
    solver.step(3)
    compare_parameters(solver, np.load(facts["after_restore_and_3_steps"]))


def compare_parameters(solver: Solver, expected: Any) -> None:
    for key in expected.files:
        layer, index = key.removeprefix("param/").split("/")
        assert_near(solver.net.params[layer][int(index)].detach(), expected[key], key)
