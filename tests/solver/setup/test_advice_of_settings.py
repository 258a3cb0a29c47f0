"""A solver or snapshot that is refused, and the same one changed as the message says: it trains."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import CaffeError
from caffecompat.solver import Solver
from tests.solver import small
from tests.solver.log.caffe_log import Lines
from tests.solver.small import SOLVER, write_training

POLICY = 'lr_policy: "multistep" gamma: 0.5 stepvalue: 3 stepvalue: 9'
TESTS = "test_iter: 2 test_interval: 4"
PLATEAU = 'lr_policy: "plateau" gamma: 0.5'
MULTIFIXED = 'lr_policy: "multifixed"'
RATES = f"{MULTIFIXED} stagelr: 0.05 stagelr: 0.01"
NET = 'net: "{folder}/net.prototxt"'
TEST_NETS = "\n" + 2 * 'test_net: "{folder}/net.prototxt" '

# The part of the solver that is replaced, by what is refused, the words, by what they advise.
CASES = [
    (POLICY, MULTIFIXED, "stagelr is missing; give a rate", [f"{RATES} stageiter: 2 stageiter: 9"]),
    (
        POLICY,
        f"{RATES} stageiter: 3",
        "stagelr has 2 values and stageiter 1; give one of each for every stage",
        [f"{RATES} stageiter: 3 stageiter: 6"],
    ),
    (POLICY, PLATEAU, "plateau_winsize is missing; give it", [f"{PLATEAU} plateau_winsize: 4"]),
    (
        f"{TESTS}\nbase_lr: 0.05 {POLICY}",
        f'base_lr: 0.05 {PLATEAU} plateau_winsize: 4 plateau_metric: "loss"',
        "there is no test net; give test_iter and test_interval, or leave plateau_metric out",
        [
            f'{TESTS} base_lr: 0.05 {PLATEAU} plateau_winsize: 4 plateau_metric: "loss"',
            f"base_lr: 0.05 {PLATEAU} plateau_winsize: 4",
        ],
    ),
    (
        f"{TESTS}\nbase_lr: 0.05 {POLICY}",
        "test_iter: 0 test_interval: 4 base_lr: 0.05 "
        f'{PLATEAU} plateau_winsize: 4 plateau_metric: "loss"',
        "test_iter is 0, but plateau_metric watches the tests; set it to 1 or more",
        [
            "test_iter: 1 test_interval: 4 base_lr: 0.05 "
            f'{PLATEAU} plateau_winsize: 4 plateau_metric: "loss"'
        ],
    ),
    (
        f"{NET}\n{TESTS}",
        TESTS,
        "no train net; name one in net, net_param, train_net or train_net_param",
        [
            f"{NET} {TESTS}",
            'train_net: "{folder}/net.prototxt" test_net: "{folder}/net.prototxt" ' + TESTS,
            f"net_param {{{{ {small.NET} }}}} {TESTS}",
            f"train_net_param {{{{ {small.NET} }}}} test_net_param {{{{ {small.NET} }}}} {TESTS}",
        ],
    ),
    (
        TESTS,
        f"{TESTS} {TEST_NETS}",
        "named by test_net and test_net_param; give one test_iter for each test net",
        [f"test_iter: 2 {TESTS} {TEST_NETS}"],
    ),
    (
        TESTS,
        f"test_iter: 1 {TESTS} test_state {{{{ }}}}",
        "1 test_state entries for 2 test net(s); give none, or one for each",
        [
            f"test_iter: 1 {TESTS}",
            f"test_iter: 1 {TESTS} test_state {{{{ }}}} test_state {{{{ }}}}",
        ],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[2])
def test_what_a_refusal_advises_trains(
    case: tuple[str, str, str, list[str]], tmp_path: Path
) -> None:
    old, bad, words, fixes = case
    assert old in SOLVER
    with pytest.raises(CaffeError) as caught:
        Solver(write_training(tmp_path, solver=SOLVER.replace(old, bad)))
    assert words in str(caught.value)
    for i, fix in enumerate(fixes):
        solver = Solver(write_training(tmp_path / str(i), solver=SOLVER.replace(old, fix)))
        solver.solve()
        assert solver.iter == 12


def test_a_net_of_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SOLVER.replace("{folder}/net.prototxt", "net.prototxt")
    path = write_training(tmp_path / "run", solver=text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaffeError, match=r"run from the folder that has it \(cd ") as caught:
        Solver(path)
    assert str(caught.value).endswith(f"(cd {path.parent}), or change net")
    path.write_text(path.read_text().replace("net.prototxt", "run/net.prototxt"))
    assert Solver(path).iter == 0
    write_training(tmp_path / "run", solver=text)
    monkeypatch.chdir(tmp_path / "run")
    assert Solver(path).iter == 0


def test_debug_info_with_another_precision(tmp_path: Path) -> None:
    path = write_training(tmp_path, "debug_info: true")
    with pytest.raises(CaffeError, match="use another precision with it"):
        Solver(path, precision="fp16")
    solver = Solver(path, precision="bf16")
    solver.step(1)
    assert solver.iter == 1


def test_a_device_that_does_not_exist(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    with pytest.raises(CaffeError, match="there is no such device; use 'cpu', 'cuda' or"):
        Solver(path, device="quantum")
    assert Solver(path, device="cpu").iter == 0


def test_a_training_that_has_ended(tmp_path: Path, lines: Lines) -> None:
    path = write_training(tmp_path)
    Solver(path).solve()
    Solver(path, snapshot="auto").solve()
    words = "iteration 12 already, and max_iter is 12; raise max_iter to train on"
    assert lines.containing(f"nothing to do: this training is at {words}")
    path.write_text(path.read_text().replace("max_iter: 12", "max_iter: 14"))
    solver = Solver(path, snapshot="auto")
    solver.solve()
    assert solver.iter == 14


def test_states_of_which_none_is_intact(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    Solver(path).solve()
    states = list(tmp_path.glob("*.solverstate"))
    for state in states:
        os.truncate(state, 20)
    with pytest.raises(CaffeError, match="move them away to start afresh"):
        Solver(path, snapshot="auto")
    (tmp_path / "away").mkdir()
    for state in states:
        state.rename(tmp_path / "away" / state.name)
    assert Solver(path, snapshot="auto").iter == 0


def test_a_later_state_of_fewer_iterations(tmp_path: Path, lines: Lines) -> None:
    path = write_training(tmp_path)
    Solver(path).solve()
    Solver(path).step(5)
    assert Solver(path, snapshot="auto").iter == 12
    assert lines.containing("if it is of another run, name it as the snapshot, or give each run a")
    assert Solver(path, snapshot=tmp_path / "snap_iter_5.solverstate").iter == 5
    path.write_text(path.read_text().replace("/snap", "/own"))
    assert Solver(path, snapshot="auto").iter == 0


def test_weights_and_snapshot(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    Solver(path).solve()
    state, weights = (tmp_path / f"snap_iter_12.{end}" for end in ("solverstate", "caffemodel"))
    with pytest.raises(CaffeError, match="give a snapshot to resume a training or weights to"):
        Solver(path, weights=weights, snapshot=state)
    assert Solver(path, snapshot=state).iter == 12
    assert Solver(path, weights=weights).iter == 0


def test_the_two_files_of_a_snapshot(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    Solver(path).solve()
    weights, apart = tmp_path / "snap_iter_12.caffemodel", tmp_path / "apart"
    apart.mkdir()
    original = weights.read_bytes()
    weights.rename(apart / weights.name)
    state = tmp_path / "snap_iter_12.solverstate"
    with pytest.raises(CaffeError, match="put the two files of the snapshot into one folder"):
        Solver(path, snapshot=state)
    state = state.rename(apart / state.name)
    assert Solver(path, snapshot=state).iter == 12

    (apart / weights.name).write_bytes((tmp_path / "snap_iter_10.caffemodel").read_bytes())
    with pytest.raises(CaffeError, match="put the snapshot's own weights beside the state, or"):
        Solver(path, snapshot=state)
    assert Solver(path, weights=apart / weights.name).iter == 0
    (apart / weights.name).write_bytes(original)
    assert Solver(path, snapshot=state).iter == 12


def test_the_state_of_another_solver_type(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    Solver(path).solve()
    state = tmp_path / "snap_iter_12.solverstate"
    text = path.read_text()
    path.write_text(text.replace("momentum: 0.9", "momentum: 0.9 type: 'Adam'"))
    with pytest.raises(CaffeError, match="Is it the state of another net, or of another solver"):
        Solver(path, snapshot=state)
    path.write_text(text)
    solver = Solver(path, snapshot=state)
    assert solver.iter == 12
    assert np.isfinite(solver.net.params["score"][0].data).all()


def test_a_file_in_the_place_of_the_snapshots_folder(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    path.write_text(path.read_text().replace("/snap", "/file/snap"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CaffeError, match="file is a file, move it away and make the folder"):
        Solver(path)
    (tmp_path / "file").rename(tmp_path / "away")
    (tmp_path / "file").mkdir()
    assert Solver(path).iter == 0
