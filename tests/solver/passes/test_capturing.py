"""Captured passes without a GPU: what is captured, the update in them, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from caffecompat.net import Net, Result
from caffecompat.net.execution.gpu.cuda_graph import NotCapturable
from caffecompat.net.execution.gpu.half_weights import HalfWeights
from caffecompat.net.kernels.choice import Kernels
from caffecompat.net.kernels.launching import launching
from caffecompat.solver import Callback, Solver, played_passes
from caffecompat.solver.setup.compute import ComputeOptions
from tests.solver.log.caffe_log import Lines
from tests.solver.passes.played_back import (
    ONE_PASS,
    PlayedOnCPU,
    check_same,
    learned,
    trained,
)
from tests.solver.small import SOLVER, write_training


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("passes", [1, 2])
def test_played_passes_make_the_same_updates(passes: int, precision: str, tmp_path: Path) -> None:
    """Rates that change, tests, snapshots and displays between the passes included."""
    path = write_training(tmp_path / "run", solver=ONE_PASS if passes == 1 else SOLVER)
    losses, solver = trained(path, 11, precision=precision)
    assert solver._train_step.captures
    assert solver._train_step._played.with_update == (passes == 1)
    plain, other = trained(path, 11, precision=precision, cuda_graph=False)
    assert losses == plain
    check_same(solver, other)
    assert solver.rate == other.rate


def test_updates_on_the_device_are_those_of_the_host(tmp_path: Path, played: None) -> None:
    """Momentum, decay, both rates and rates that change; within rounding."""
    path = write_training(tmp_path / "run")
    _, solver = trained(path, 11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ComputeOptions, "kernels_on", lambda self, device: Kernels())
        _, other = trained(path, 11)
    for one, array in zip(solver.history, other.history, strict=True):
        torch.testing.assert_close(one, array, rtol=1e-4, atol=1e-6)
    for one, array in zip(learned(solver), learned(other), strict=True):
        torch.testing.assert_close(one, array, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("played")
def test_a_resumed_run_in_fp16(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", solver=ONE_PASS)
    _, whole = trained(path, 9, precision="fp16")
    state = tmp_path / "run" / "snap_iter_5.solverstate"
    resumed = Solver(path, snapshot=state, precision="fp16")
    resumed.step(4)
    check_same(resumed, whole)


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("passes", [1, 2])
def test_a_net_that_is_observed_keeps_its_blobs(passes: int, tmp_path: Path) -> None:
    """Its passes are launched one by one, between those that are played back."""
    path = write_training(tmp_path / "run", solver=ONE_PASS if passes == 1 else SOLVER)
    _, solver = trained(path, 2)
    solver.net.observe = True
    solver.step(2)
    assert solver.net.blobs["conv"].data.any()
    assert solver.net.blobs["conv"].diff.any()
    solver.net.observe = False
    solver.step(2)
    assert solver._train_step.captures
    check_same(solver, trained(path, 6, cuda_graph=False)[1])


def half_weights(solver: Solver) -> HalfWeights:
    captured: Any = solver._train_step._played._captured
    found = captured._halves
    assert isinstance(found, HalfWeights)
    return found


@pytest.mark.usefixtures("played")
def test_steps_at_one_iteration(tmp_path: Path) -> None:
    """The policy takes one per iteration, also where the rate is needed before the pass."""
    text = ONE_PASS.replace("stepvalue: 3 stepvalue: 9", "stepvalue: 1 stepvalue: 1 stepvalue: 1")
    path = write_training(tmp_path / "run", solver=text)
    (losses, solver), (plain, other) = trained(path, 4), trained(path, 4, cuda_graph=False)
    assert solver._train_step._played.with_update
    assert losses == plain
    assert solver.rate == other.rate == pytest.approx(0.05 / 8)
    check_same(solver, other)


class Doubling(Callback):
    """Doubles a weight after iteration 3, in a way that torch does not notice."""

    def iterated(self, solver: Any) -> None:
        if solver.iter == 3:
            solver.net.params["conv"][0].data.mul_(2)


@pytest.mark.usefixtures("played")
def test_weights_in_16_bits_that_others_change(tmp_path: Path) -> None:
    """A callback, the user between two steps, and passes that are not played back."""
    path = write_training(tmp_path / "run", solver=ONE_PASS)
    solvers = []
    for graph in (None, False):
        solver = Solver(path, precision="bf16", cuda_graph=graph)
        solver.callbacks.append(Doubling())
        solver.step(5)
        solver.net.params["score"][0].data.mul_(0.5)
        solver.step(2)
        solver.net.observe = True
        solver.step(2)
        gradient = solver.net.params["conv"][0].grad
        assert gradient is not None
        assert gradient.any()
        solver.net.observe = False
        solver.step(2)
        solvers.append(solver)
    check_same(*solvers)
    halves = half_weights(solvers[0])
    assert len(halves.tensors) == 2
    for name in ("conv", "score"):
        weight = solvers[0].net.params[name][0]
        assert any(torch.equal(half, weight.bfloat16()) for half in halves.tensors)
        # The gradient is that of the copy; an older one is not shown.
        assert weight.grad is None


@pytest.mark.usefixtures("played")
def test_which_weights_are_in_16_bits(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", solver=ONE_PASS)
    definition = path.parent / "net.prototxt"
    whole = definition.read_text()
    # A weight that two layers share, and one that does not learn.
    shared = whole.replace(
        'layer { name: "loss"',
        'layer { name: "twice" type: "InnerProduct" bottom: "norm" top: "twice" '
        'param { name: "one" } inner_product_param { num_output: 3 } }\n'
        'layer { name: "sum" type: "Eltwise" bottom: "score" bottom: "twice" top: "both" }\n'
        'layer { name: "loss"',
    )
    shared = shared.replace('top: "score"\n', 'top: "score" param { name: "one" }\n')
    shared = shared.replace(
        'bottom: "score" bottom: "label" top: "loss"', 'bottom: "both" bottom: "label" top: "loss"'
    )
    for text, count in ((whole, 2), (shared, 1), (whole.replace("lr_mult: 1", "lr_mult: 0"), 1)):
        definition.write_text(text)
        solver = Solver(path, precision="bf16")
        assert len(half_weights(solver).tensors) == count
        solver.step(2)
        other = Solver(path, precision="bf16", cuda_graph=False)
        other.step(2)
        check_same(solver, other)
    for options in ({}, {"precision": "fp16"}, {"precision": "bf16", "fused": False}):
        captured: Any = Solver(path, **options)._train_step._played._captured
        assert captured._halves is None


@pytest.mark.usefixtures("played")
def test_passes_that_cannot_be_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training goes on without a graph, unless one was asked for."""

    def refuse(self: Any, learned: Any) -> Any:
        for _ in range(3):
            self._pass()
        raise NotCapturable("CUDA graph: this net cannot be captured: a copy")

    path = write_training(tmp_path / "run", solver=ONE_PASS)
    plain, other = trained(path, 6, cuda_graph=False)
    monkeypatch.setattr(PlayedOnCPU, "_captured", refuse)
    losses, solver = trained(path, 6)
    assert losses == plain
    assert not solver._train_step.captures
    check_same(solver, other)
    monkeypatch.setattr(ComputeOptions, "check", lambda *arguments: None)
    with pytest.raises(NotCapturable, match="a copy"):
        trained(path, 1, cuda_graph=True)


@pytest.mark.usefixtures("played")
def test_a_batch_of_another_shape(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", solver=ONE_PASS)
    (_, solver), (_, other) = trained(path, 3), trained(path, 3, cuda_graph=False)

    @contextmanager
    def smaller(net: Net) -> Iterator[None]:
        source = net.layers[0].source
        assert source is not None
        whole = source.read
        source.read = lambda index: [a[:2] for a in whole(index) or ()]  # type: ignore
        yield

    for training in (solver, other):
        with smaller(training.net):
            training.step(3)
    assert not solver._train_step.captures
    check_same(solver, other)


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("clip_gradients: 1", "clip_gradients"),
        ('type: "Adam" momentum2: 0.99', "type Adam"),
        ("snapshot_diff: true", "snapshot_diff"),
        ('regularization_type: "L1"', "regularization_type"),
    ],
)
def test_updates_outside_of_the_graph(more: str, words: str, tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", f"random_seed: 7 {more}", ONE_PASS)
    (losses, solver), (plain, other) = trained(path, 5), trained(path, 5, cuda_graph=False)
    assert solver._optimizer.obstacle == words
    assert solver._train_step.captures
    assert not solver._train_step._played.with_update
    assert losses == plain
    check_same(solver, other)


def test_the_line_for_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: Lines
) -> None:
    told: list[str] = []
    monkeypatch.setattr(played_passes.PlayedPasses, "_tell", lambda self, line: told.append(line))
    Solver(write_training(tmp_path / "run"))
    assert told == ["CUDA graph: passes are not captured: it needs a GPU"]


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("passes", [1, 2])
def test_gradients_of_inputs(passes: int, tmp_path: Path) -> None:
    """Those of the last pass, as without a graph; those of passes do not add up."""
    path = write_training(tmp_path / "run", solver=ONE_PASS if passes == 1 else SOLVER)
    definition = path.parent / "net.prototxt"
    definition.write_text("force_backward: true\n" + definition.read_text())
    (_, solver), (_, other) = trained(path, 3), trained(path, 3, cuda_graph=False)
    for _ in range(2):
        found = solver.net.blobs["data"].diff
        assert found.abs().max() > 0
        assert torch.equal(found, other.net.blobs["data"].diff)
        solver.step(1)
        other.step(1)
    check_same(solver, other)


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("passes", [1, 2])
def test_a_kernel_that_fails_is_replaced(
    passes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """In the middle of the passes before the capture, after statistics have changed."""
    path = write_training(tmp_path / "run", solver=ONE_PASS if passes == 1 else SOLVER)
    plain, other = trained(path, 4, cuda_graph=False)
    failed: list[Result] = []
    whole = PlayedOnCPU._captured

    def fail_once(self: Any, learned: Any) -> Any:
        if not failed:
            failed.append(self._pass())
            with launching("pooling", torch.zeros(1)):
                raise ValueError("out of resources")
        return whole(self, learned)

    monkeypatch.setattr(PlayedOnCPU, "_captured", fail_once)
    losses, solver = trained(path, 4)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert solver._train_step.captures
    if passes == 1:
        check_same(solver, other)
    assert not solver._optimizer._kernel
    assert lines.containing(
        "torch's operators replace the kernels: the Triton kernel for pooling does not run on cpu: "
        "ValueError: out of resources"
    )
