"""The trajectories of BVLC Caffe's solvers: rates, losses, parameters, gradients, histories."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import read_solver
from caffecompat.solver import Solver
from tests.places import COPIES
from tests.recorded.trajectories import Tally, Trajectory, near
from tests.solver.caffe_log import Lines, assert_same_events

COPIED = ["sgd_multistep", "clip_iter_size", "resume_adam"]


@pytest.mark.parametrize("name", COPIED)
def test_follows_caffe(name: str, enter: Callable[[Path], Path]) -> None:
    enter(COPIES / "solver" / name)
    Trajectory().follow(Solver("solver.prototxt", weights="init.caffemodel"))


def test_goes_on_from_caffes_state(enter: Callable[[Path], Path]) -> None:
    enter(COPIES / "solver" / "resume_adam")
    solver = Solver("solver.prototxt", snapshot="snap_iter_6.solverstate")
    assert solver.iter == 6
    Trajectory().follow(solver)


def cases(golden: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((golden / "solver" / "index.json").read_text())
    return entries


def test_all_recorded_trajectories(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally()
    for entry in cases(golden):
        with tally.case(entry["name"]):
            monkeypatch.chdir(golden / "solver" / entry["name"])
            solver = quiet_solver(tmp_path, weights="init.caffemodel")
            Trajectory().follow(solver)
    tally.close()


def test_all_recorded_resumes(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run follows the uninterrupted one, also where Caffe restarts its data."""
    tally = Tally()
    for entry in cases(golden):
        if not entry["resume"]:
            continue
        with tally.case(entry["name"]):
            monkeypatch.chdir(golden / "solver" / entry["name"])
            state = json.loads(Path("case.json").read_text())["resume"]["state"]
            solver = quiet_solver(tmp_path, snapshot=state)
            assert solver.iter > 0
            Trajectory().follow(solver)
    tally.close()


def quiet_solver(folder: Path, weights: str | None = None, snapshot: str | None = None) -> Solver:
    """The solver of the current folder, with its snapshots elsewhere."""
    message = read_solver("solver.prototxt")
    message.snapshot_prefix = str(folder / "snap")
    return Solver(message, weights, snapshot)


def test_recorded_displays(
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: Lines,
) -> None:
    """Averaged losses, outputs and rates as ``caffe train`` printed them."""
    tally = Tally()
    for entry in cases(golden):
        if not entry["cli_log"]:
            continue
        with tally.case(entry["name"]):
            monkeypatch.chdir(golden / "solver" / entry["name"])
            recorded = json.loads(Path("case.json").read_text())["log"]
            lines.text.clear()
            quiet_solver(tmp_path, weights="init.caffemodel").solve()
            start = next(i for i, e in enumerate(lines.events) if e.startswith("Solving"))
            shown = [e for e in lines.events[start + 2 : -1] if not e.startswith("Snapshotting")]
            expected = [as_event(r) for r in recorded if "snapshot" not in r]
            interval = next((e for e in shown if "iters" in e), "s/1 iters").split("s/")[1]
            expected = [e.replace("<interval>", interval.split(" ")[0]) for e in expected]
            assert_same_events(shown, expected)
    tally.close()


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


def test_recorded_states(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restoring Caffe's own states of every type and format, then three more steps."""
    folder = golden / "files" / "solverstate"
    monkeypatch.chdir(folder)
    tally = Tally()
    for state in json.loads((folder / "case.json").read_text())["states"]:
        with tally.case(state["state"]):
            solver = solver_of(state["solver"], tmp_path)
            solver.restore(state["state"])
            assert solver.iter == state["iter"]
            assert solver._policy.step == state["current_step"]
            compare_parameters(solver, np.load(state["params"]))
            history = np.load(state["history"])
            for i, array in enumerate(solver._optimizer.history):
                np.testing.assert_array_equal(array, history[history.files[i]])
            solver.step(3)
            compare_parameters(solver, np.load(state["after_restore_and_3_steps"]))
    tally.close()


def solver_of(name: str, folder: Path) -> Solver:
    message = read_solver(name)
    message.snapshot_prefix = str(folder / "snap")
    return Solver(message)


def compare_parameters(solver: Solver, expected: Any) -> None:
    for key in expected.files:
        layer, index = key.removeprefix("param/").split("/")
        near(solver.net.params[layer][int(index)].detach(), expected[key], key)
