"""Whole trainings: repeated, resumed, tested, with several nets."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.errors import FileProblem, SolverError, WeightsError
from caffecompat.net import Result
from caffecompat.proto import files, read_solver, schema
from caffecompat.proto.files import write_text
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver import Action, Solver
from caffecompat.solver.tester import is_test_due, scheduled_tests
from tests.places import COPIES
from tests.solver.log.caffe_log import Lines, parse
from tests.solver.small import write_training


def losses(solver: Solver, iterations: int) -> list[float]:
    found = []
    for _ in range(iterations):
        solver.step(1)
        found.append(solver.loss)
    return found


def parameters(solver: Solver) -> list[bytes]:
    return [entry.tensor.detach().numpy().tobytes() for entry in solver.net.learnable]


def test_two_runs_with_one_seed_are_equal(tmp_path: Path) -> None:
    path = write_training(tmp_path / "a")
    first, second = Solver(path), Solver(path)
    assert losses(first, 6) == losses(second, 6)
    assert parameters(first) == parameters(second)
    other = Solver(write_training(tmp_path / "b", "random_seed: 8"))
    assert losses(other, 6) != losses(Solver(path), 6)


@pytest.mark.parametrize("seed", ["random_seed: 7", ""])
@pytest.mark.parametrize("format_", ["", "snapshot_format: HDF5"])
def test_a_resumed_run_equals_the_uninterrupted(
    seed: str, format_: str, tmp_path: Path, lines: Lines
) -> None:
    """Bit for bit: dropout, crops, flips, statistics, histories, rates, test scores, all of it."""
    path = write_training(tmp_path / "run", f"{seed} {format_}")
    whole = Solver(path)
    whole.solve()
    rows = parse(lines.text)
    lines.text.clear()
    suffix = ".h5" if format_ else ""
    resumed = Solver(path, snapshot=f"{tmp_path}/run/snap_iter_5.solverstate{suffix}")
    assert (resumed.iter, resumed.seed) == (5, whole.seed)
    resumed.solve()
    assert parameters(resumed) == parameters(whole)
    assert [a.numpy().tobytes() for a in resumed.history] == [
        a.numpy().tobytes() for a in whole.history
    ]
    again = parse(lines.text)
    assert again["Train"] == [row for row in rows["Train"] if row.iteration >= 5]
    assert again["Test"][1:] == [row for row in rows["Test"] if row.iteration > 8]
    assert again["Test"][0].outputs == next(r for r in rows["Test"] if r.iteration == 8).outputs


def test_restoring_a_running_solver(tmp_path: Path) -> None:
    """The drawn seed of the first run comes with the state, so the nets are made anew."""
    path = write_training(tmp_path / "run", "")
    whole = Solver(path)
    expected = losses(whole, 9)
    other = Solver(path)
    other.step(2)
    other.restore(tmp_path / "run" / "snap_iter_5.solverstate")
    assert other.seed == whole.seed
    assert losses(other, 4) == expected[5:]
    assert other.test_nets[0].params["score"][0] is other.net.params["score"][0]


def test_a_seed_in_the_definition_counts(tmp_path: Path, lines: Lines) -> None:
    first = Solver(write_training(tmp_path / "run"))
    first.step(5)
    other = Solver(
        write_training(tmp_path / "other", "random_seed: 9"),
        snapshot=tmp_path / "run" / "snap_iter_5.solverstate",
    )
    assert other.seed == 9
    assert lines.containing("random_seed is 9, but the state was trained with 7")


def test_the_first_lines_describe_the_training(tmp_path: Path, lines: Lines) -> None:
    solver = Solver(write_training(tmp_path / "run", ""))
    batch = "Effective batch size: 6 (batch size 3 x iter_size 2, on 1 device)"
    assert lines.events[:2] == [batch, "Use CPU."]
    drawn = lines.containing("Random seed: ")
    expected = f"Random seed: {solver.seed} (drawn; random_seed: {solver.seed} repeats this run)"
    assert drawn == [expected]


def test_each_prototxt_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a test net and a forecast; a file that is edited meanwhile gives no other net."""
    read: list[str] = []
    original = files.read_text

    def counted(path: files.PathLike, *arguments: Any, **keywords: Any) -> Any:
        read.append(Path(path).name)
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(files, "read_text", counted)
    solver = Solver(write_training(tmp_path), forecast=True)
    assert len(solver.test_nets) == 1
    solver.close()
    assert len(read) == len(set(read)) == 2


def test_test_nets_have_the_train_nets_weights(tmp_path: Path) -> None:
    solver = Solver(write_training(tmp_path / "run"))
    (tested,) = solver.test_nets
    for layer, tensors in solver.net.params.items():
        for ours, theirs in zip(tensors, tested.params[layer], strict=True):
            assert ours.data_ptr() == theirs.data_ptr()
    solver.step(1)
    scores = solver.test_all()[0]
    assert set(scores.outputs) == {"accuracy", "loss"}
    assert math.isclose(scores.loss, scores.outputs["loss"][0])


@pytest.mark.parametrize("initially", [True, False])
def test_when_tests_come(initially: bool) -> None:
    message = schema.new("SolverParameter")
    message.test_interval = 4
    message.test_initialization = initially
    done = 0
    for iteration in range(14):
        assert scheduled_tests(message, iteration) == done
        done += is_test_due(message, iteration)


def test_tests_go_on_through_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = Solver(write_training(tmp_path / "run"))
    passes: list[int] = []
    run = solver.test_nets[0].run

    def recording_run(index: int) -> Result:
        passes.append(index)
        return run(index)

    monkeypatch.setattr(solver.test_nets[0], "run", recording_run)
    solver.step(9)
    assert passes == [0, 1, 2, 3, 4, 5]


STATES = """
state {{ stage: "own" }}
layer {{ name: "x" type: "DummyData" top: "x" dummy_data_param {{ shape {{ dim: [2, 3] }} }} }}
layer {{ name: "given" type: "Silence" bottom: "x" include {{ {rule} }} }}
"""


@pytest.mark.parametrize(
    ("rule", "arguments", "there"),
    [
        ('stage: "own" stage: "extra"', {"stages": ["extra"]}, True),
        ('stage: ""', {"stages": [""]}, True),
        ('stage: ""', {}, False),
        ("min_level: 2", {"level": 2}, True),
        ("min_level: 1", {}, True),
        ("min_level: 1", {"level": 0}, False),
        ("phase: TRAIN", {}, True),
    ],
)
def test_state_of_the_train_net(
    rule: str, arguments: dict[str, object], there: bool, tmp_path: Path
) -> None:
    (tmp_path / "n.prototxt").write_text(STATES.format(rule=rule))
    message = schema.new("SolverParameter")
    message.net = str(tmp_path / "n.prototxt")
    message.lr_policy = "fixed"
    message.train_state.level = 1
    solver = Solver(message, **arguments)  # type: ignore[arg-type]
    assert ("given" in [built.name for built in solver.net.layers]) is there


def test_a_level_that_takes_the_place_of_another_is_mentioned(tmp_path: Path, lines: Lines) -> None:
    path = write_training(tmp_path / "run", "train_state { level: 3 }")
    Solver(path, level=0)
    assert lines.containing("--level 0 replaces train_state's 3")


def test_a_loss_that_is_no_number_is_reported_once(tmp_path: Path, lines: Lines) -> None:
    solver = Solver(write_training(tmp_path / "run"), on_nan="ignore")
    with torch.no_grad():
        solver.net.params["score"][0].fill_(math.nan)
    solver.step(4)
    (warning,) = lines.containing("not a finite number")
    assert warning.startswith("Iteration 0: the loss is not a finite number; the run has diverged")


def test_requests_between_iterations(tmp_path: Path, lines: Lines) -> None:
    solver = Solver(write_training(tmp_path / "run"))
    actions = iter([*[Action.NONE] * 3, Action.SNAPSHOT, Action.NONE, Action.STOP])
    solver.requested = lambda: next(actions, Action.NONE)
    solver.solve()
    # Two of the questions come from the test at iteration 0.
    assert solver.iter == 4
    assert sorted(p.name for p in (tmp_path / "run").glob("*.solverstate")) == [
        "snap_iter_2.solverstate",
        "snap_iter_4.solverstate",
    ]
    assert lines.events[-1] == "Optimization stopped early."


def test_a_stop_in_a_test_ends_the_test(tmp_path: Path, lines: Lines) -> None:
    solver = Solver(write_training(tmp_path / "run"))
    solver.requested = lambda: Action.STOP
    solver.step(3)
    assert solver.iter == 0
    assert lines.events[-1] == "Test interrupted."


def test_weights_to_start_from(tmp_path: Path, lines: Lines) -> None:
    first = Solver(write_training(tmp_path / "run"))
    first.step(5)
    model = f"{tmp_path}/run/snap_iter_5.caffemodel"
    other = Solver(
        write_training(tmp_path / "other", f'random_seed: 3 weights: "{model} , {model}"')
    )
    assert parameters(other) == parameters(first)
    assert other.iter == 0
    assert lines.containing(f"Finetuning from {model}") == [f"Finetuning from {model}"] * 4
    third = Solver(write_training(tmp_path / "third", 'weights: "none"'), weights=model)
    assert parameters(third) == parameters(first)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("iter_size: 0 average_loss: 0 display: -1", "iter_size is 0.*"),
        ('net_param { name: "x" }', "net and net_param each name a train net; keep one"),
        ("test_iter: 1 test_state {}", r"1 test_state entries for 2 test net\(s\)"),
        ("test_iter: -1", r"test_iter is \[2, -1\], it must not be negative"),
        ("base_lr: nan", "base_lr is nan, it must be a finite number"),
        ("test_interval: 0", "test_interval is 0; with a test net it must be"),
        ("snapshot_prefix: '/none/such/x'", "cannot write snapshots to '/none/such/x': No such"),
        ("solver_mode: GPU", "solver_mode: GPU: torch .* cannot use a GPU here; add --cpu"),
    ],
)
def test_impossible_settings(more: str, sentence: str, tmp_path: Path) -> None:
    if "GPU" in more and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    path = write_training(tmp_path / "run")
    message = read_solver(path)
    changes, _ = parse_text(more, "SolverParameter")
    message.MergeFrom(changes)
    write_text(message, path)
    with pytest.raises(SolverError, match=sentence) as caught:
        Solver(path)
    assert len(str(caught.value).splitlines()) == (3 if "average_loss" in more else 1)


def test_independent_mistakes_come_together(tmp_path: Path) -> None:
    solver = 'net: "x" lr_policy: "stepp" type: "Adams" iter_size: 0 regularization_type: "L0" '
    with pytest.raises(SolverError) as caught:
        Solver(write_training(tmp_path / "run", "", solver))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all("small.solver.prototxt" in line for line in lines)


def test_missing_things(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"none.prototxt: there is no such file"):
        Solver(tmp_path / "none.prototxt")
    path = write_training(tmp_path / "run")
    with pytest.raises(FileProblem, match=r"none.caffemodel"):
        Solver(path, weights=str(tmp_path / "none.caffemodel"))
    with pytest.raises(SolverError, match="no train net; name one in net, net_param"):
        Solver(schema.new("SolverParameter").FromString(b"B\x05fixed"))
    with pytest.raises(SolverError, match="weights and snapshot are both given"):
        Solver(path, weights="a", snapshot="b")
    (tmp_path / "run" / "net.prototxt").unlink()
    with pytest.raises(FileProblem, match=r"net.prototxt: there is no such file"):
        Solver(path)


def test_what_has_no_effect_is_said(tmp_path: Path, lines: Lines) -> None:
    solver = 'net: "{folder}/net.prototxt" lr_policy: "fixed"'
    Solver(write_training(tmp_path / "run", "", solver))
    warnings = [line for line in lines.text if line.startswith("W")]
    assert len(warnings) == 2
    for words in ("base_lr is not given", "max_iter is not given"):
        assert lines.containing(words)


def test_a_net_of_another_shape_is_refused(tmp_path: Path, enter: Callable[[Path], Path]) -> None:
    path = write_training(tmp_path / "run")
    enter(COPIES / "solver" / "resume_adam")
    with pytest.raises(SolverError, match=r"snap_iter_6.solverstate: has 8 history arrays"):
        Solver(path, snapshot="snap_iter_6.solverstate")
    net = schema.new("NetParameter")
    layer = net.layer.add(name="conv", type="Convolution")
    layer.blobs.add(data=np.ones(2), shape={"dim": [2]})
    Path("odd.caffemodel").write_bytes(net.SerializeToString())
    with pytest.raises(WeightsError, match=r"odd.caffemodel: .*net.prototxt:9: layer 'conv'"):
        Solver(path, weights="odd.caffemodel")
