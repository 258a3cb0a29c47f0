"""``lr_policy: "plateau"``: its drops, its metric, its resumption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import SolverError
from caffecompat.proto import schema
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver import Solver
from caffecompat.solver.optim.policies.plateau import Plateau
from caffecompat.weights import SolverState, read_state, write_state
from tests.solver.log.caffe_log import Lines, parse
from tests.solver.small import write_training

TRAINING = """
net: "{folder}/net.prototxt" test_iter: 2 test_interval: 2
base_lr: 0.02 gamma: 0.5 momentum: 0.9 random_seed: 3 display: 1 average_loss: 3 max_iter: 24
snapshot: 7 snapshot_prefix: "{folder}/snap" lr_policy: "plateau" plateau_winsize: 2
plateau_drops: 3 """


def make(text: str) -> Plateau:
    message, _ = parse_text(f'base_lr: 1 gamma: 0.5 lr_policy: "plateau" {text}', "SolverParameter")
    return Plateau(message, "s.prototxt")


def rates(policy: Plateau, values: list[float], every: int = 1) -> list[float]:
    found = []
    for i, value in enumerate(values):
        policy.observe(i * every, value)
        found.append(float(policy.rate(i * every)))
    return found


def test_drops_after_the_window() -> None:
    policy = make("plateau_winsize: 3 plateau_drops: 2")
    assert rates(policy, [9, 8, 8, 8, 8, 8, 7, 7, 7, 7, 7, 7, 7]) == [
        1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25,
    ]  # fmt: skip
    assert (policy.step, policy.best) == (2, 7)


def test_each_drop_has_its_window() -> None:
    policy = make("plateau_winsize: [1, 3]")
    assert rates(policy, [5] * 9) == [1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25]


def test_windows_count_iterations_not_observations() -> None:
    policy = make('plateau_winsize: 20 plateau_metric: "accuracy"')
    assert rates(policy, [-0.1, -0.2, -0.2, -0.15, -0.1], every=10) == [1, 1, 1, 0.5, 0.5]


def test_what_is_no_number_is_no_improvement() -> None:
    policy = make("plateau_winsize: 2 plateau_drops: 1")
    assert rates(policy, [4, float("nan"), float("nan"), 3]) == [1, 1, 0.5, 0.5]


def test_the_training_loss_is_averaged() -> None:
    policy = make("plateau_winsize: 9 average_loss: 3")
    rates(policy, [6, 3, 3, 0])
    assert policy.best == 2
    assert policy.recent == [3, 3, 0]


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_the_state_keeps_everything(suffix: str, tmp_path: Path) -> None:
    policy = make("plateau_winsize: 2 average_loss: 3 plateau_drops: 5")
    rates(policy, [0.7, 0.3, 0.9, 0.9, 0.9])
    state = SolverState(5, "x", [np.ones(3, np.float32)])
    policy.save(state)
    path = tmp_path / f"a.solverstate{suffix}"
    write_state(state, path)
    other = make("plateau_winsize: 2 average_loss: 3 plateau_drops: 5")
    other.load(read_state(path))
    for name in ("step", "best", "last_event"):
        assert getattr(other, name) == getattr(policy, name)
    assert other.recent == np.array(policy.recent, np.float32).tolist()
    more = [0.8, 0.1, 0.9]
    assert rates(other, more) == rates(policy, more)


def test_the_fields_of_the_state_are_ssds(tmp_path: Path) -> None:
    state = SolverState(5, "x", [], 2, 7, minimum_loss=0.25, iter_last_event=300)
    path = tmp_path / "a.solverstate"
    write_state(state, path)
    message = schema.message_class("SolverState").FromString(path.read_bytes())
    assert (message.minimum_loss, message.iter_last_event) == (0.25, 300)
    message.minimum_loss = -0.5
    path.write_bytes(message.SerializeToString())
    assert read_state(path).minimum_loss == -0.5
    plain = tmp_path / "b.solverstate"
    write_state(SolverState(5, "x", [], 2), plain)
    assert (
        not schema.message_class("SolverState")
        .FromString(plain.read_bytes())
        .HasField("minimum_loss")
    )


@pytest.mark.parametrize(
    ("metric", "format_"),
    [
        ("", ""),
        ('plateau_metric: "accuracy"', "snapshot_format: HDF5"),
        ('plateau_metric: "loss"', ""),
    ],
)
def test_a_resumed_run_equals_the_uninterrupted(
    metric: str, format_: str, tmp_path: Path, lines: Lines
) -> None:
    path = write_training(tmp_path / "run", f"{metric} {format_}", TRAINING)
    whole = Solver(path)
    whole.solve()
    rows = parse(lines.text)["Train"]
    assert len({row.rate for row in rows}) > 1
    assert lines.containing("Plateau Status: Iteration ")
    for iteration in (7, 21):
        lines.text.clear()
        suffix = ".h5" if format_ else ""
        resumed = Solver(path, snapshot=f"{tmp_path}/run/snap_iter_{iteration}.solverstate{suffix}")
        resumed.solve()
        again = parse(lines.text)["Train"]
        assert [(r.iteration, r.rate) for r in again] == [
            (r.iteration, r.rate) for r in rows if r.iteration >= iteration
        ]
        for ours, theirs in zip(resumed.net.learnable, whole.net.learnable, strict=True):
            np.testing.assert_array_equal(ours.tensor.detach(), theirs.tensor.detach())


def test_the_log_says_whether_lower_or_higher_is_better(tmp_path: Path, lines: Lines) -> None:
    for metric, better in (("accuracy", "higher"), ("loss", "lower"), ("-accuracy", "lower")):
        lines.text.clear()
        Solver(write_training(tmp_path / metric, f'plateau_metric: "{metric}"', TRAINING))
        name = metric.lstrip("-")
        assert lines.containing("Plateau:") == [
            f"Plateau: watching {name!r} of test net #0; {better} is better"
        ]


def test_a_metric_that_is_not_there(tmp_path: Path) -> None:
    path = write_training(tmp_path / "a", 'plateau_metric: "acuracy"', TRAINING)
    with pytest.raises(SolverError, match=r"small.solver.prototxt: .*did you mean 'accuracy'"):
        Solver(path)
    alone = TRAINING.replace("test_iter: 2 test_interval: 2", "")
    path = write_training(tmp_path / "b", 'plateau_metric: "accuracy"', alone)
    with pytest.raises(SolverError, match="but there is no test net; give test_iter"):
        Solver(path)
    path = write_training(tmp_path / "c", 'plateau_metric: "score"', TRAINING)
    net = tmp_path / "c" / "net.prototxt"
    silent = [part for part in net.read_text().split("layer {") if '"accuracy"' not in part]
    net.write_text("layer {".join(part for part in silent if '"loss"' not in part))
    with pytest.raises(SolverError, match="has the shape 2x3; watch one with a single value"):
        Solver(path)
