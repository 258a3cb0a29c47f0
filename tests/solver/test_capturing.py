"""Captured passes without a GPU: what is captured, the update in them, and the way back."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.errors import DataError, SolverError
from caffecompat.net import Net, Result
from caffecompat.net.execution.cuda_graph import CapturedPass, NotCapturable
from caffecompat.net.execution.half_weights import HalfWeights
from caffecompat.net.kernels.choice import Kernels
from caffecompat.net.kernels.launching import launching
from caffecompat.solver import Callback, Solver, train_step
from caffecompat.solver.diagnostics.nonfinite import NotFinite
from caffecompat.solver.setup.capturing import obstacle_to_capture
from caffecompat.solver.setup.compute import ComputeOptions
from caffecompat.solver.signals import Action
from tests.solver.caffe_log import Lines
from tests.solver.small import SOLVER, write_training

GPU = torch.device("cuda", 0)
ONE_PASS = SOLVER.replace("iter_size: 2", "iter_size: 1")


class PlayedOnCPU(CapturedPass):
    """Plays a pass back by launching it again over the same tensors, as a CUDA graph does."""

    def _captured(self, learned: Any) -> Any:
        for _ in range(3):
            self._result = self._pass()
        return SimpleNamespace(replay=lambda: self._replay(learned))

    def _replay(self, learned: Any) -> None:
        for parameter in () if self._adds_up else learned:
            parameter.grad = None
        found = self._pass()
        self._result = Result(found.outputs, found.loss)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings on the CPU that go the way of those on a GPU."""
    on_gpu = lambda layers, device, *rest: obstacle_to_capture(layers, GPU, *rest)  # noqa: E731
    monkeypatch.setattr(train_step, "obstacle_to_capture", on_gpu)
    monkeypatch.setattr(train_step, "CapturedPass", PlayedOnCPU)
    kernels = Kernels(update=True)
    monkeypatch.setattr(ComputeOptions, "kernels_on", lambda self, device: kernels)
    # No kernel runs on a CPU; its definition in torch operators does.
    monkeypatch.setattr("caffecompat.net.kernels.update._launch", _by_torch)


@pytest.fixture(autouse=True, scope="module")
def only_own_objects() -> None:
    """Makes the collections below look at the objects of these tests alone."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Ends the data threads of each test's trainings, which the stand-in keeps in a circle."""
    yield
    gc.collect()


def _by_torch(*arguments: Any) -> None:
    from caffecompat.net.kernels.update import sgd_update_by_torch

    sgd_update_by_torch(*arguments)


def trained(path: Path, steps: int, **options: Any) -> tuple[list[float], Solver]:
    solver = Solver(path, **options)
    scaler = solver._train_step._grad_scaler
    if scaler is not None:
        scaler.value.fill_(256)
    losses = []
    for _ in range(steps):
        solver.step(1)
        losses.append(solver.loss)
    return losses, solver


def learned(solver: Solver) -> list[torch.Tensor]:
    """The parameters that train; statistics change in each forward pass."""
    return [entry.tensor.detach().clone() for entry in solver.net.learnable if entry.lr_mult]


def statistics(solver: Solver) -> list[torch.Tensor]:
    """Those of BatchNorm; they are no parameters that learn."""
    return [value.detach().clone() for value in solver.net.params["norm"]]


def check_same(ours: Solver, theirs: Solver) -> None:
    for a, b in zip(ours.net.learnable, theirs.net.learnable, strict=True):
        assert torch.equal(a.tensor, b.tensor), a.layer
    for array, other in zip(ours.history, theirs.history, strict=True):
        assert torch.equal(array, other)
    for array, other in zip(ours.net.buffers(), theirs.net.buffers(), strict=True):
        assert torch.equal(array, other)


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("passes", [1, 2])
def test_played_passes_make_the_same_updates(passes: int, precision: str, tmp_path: Path) -> None:
    """Rates that change, tests, snapshots and displays between the passes included."""
    path = write_training(tmp_path / "run", solver=ONE_PASS if passes == 1 else SOLVER)
    losses, solver = trained(path, 11, precision=precision)
    assert solver._train_step.captures
    assert solver._train_step._updates == (passes == 1)
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
@pytest.mark.parametrize("graph", [None, False])
def test_overflows_are_reported_one_iteration_later(
    graph: bool | None, tmp_path: Path, lines: Lines
) -> None:
    path = write_training(tmp_path / "run", solver=ONE_PASS)
    solver = Solver(path, precision="fp16", cuda_graph=graph)
    scaler = solver._train_step._grad_scaler
    assert scaler is not None
    scaler.value.fill_(256)
    solver.step(2)
    before = learned(solver)
    history = [array.clone() for array in solver.history]
    scaler.value.fill_(2.0**120)
    solver.step(1)
    assert not lines.containing("gradients overflow")
    assert all(map(torch.equal, before, learned(solver)))
    assert all(map(torch.equal, history, solver.history))
    assert float(scaler.value) == 2.0**119
    solver.step(1)
    (line,) = lines.containing("gradients overflow")
    assert line.startswith("Iteration 2: gradients overflow in fp16, no update is made")
    solver.snapshot()
    assert lines.containing("Iteration 3: gradients overflow in fp16")
    scaler.value.fill_(2.0**-14)
    scaler.found.fill_(1)
    scaler.adjust()
    scaler.watch(4)
    with pytest.raises(SolverError, match="iteration 4: gradients are not finite in fp16"):
        scaler.catch_up()


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
    captured: Any = solver._train_step._captured
    found = captured._halves
    assert isinstance(found, HalfWeights)
    return found


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
        captured: Any = Solver(path, **options)._train_step._captured
        assert captured._halves is None


@pytest.mark.usefixtures("played")
def test_an_overflow_in_the_last_iteration_is_reported(tmp_path: Path, lines: Lines) -> None:
    text = ONE_PASS.replace("snapshot: 5", "snapshot_after_train: false")
    path = write_training(tmp_path / "run", solver=text.replace("max_iter: 12", "max_iter: 2"))
    solver = Solver(path, precision="fp16")
    scaler = solver._train_step._grad_scaler
    assert scaler is not None
    scaler.value.fill_(256)
    solver.step(1)
    scaler.value.fill_(2.0**120)
    solver.solve()
    assert lines.containing("Iteration 1: gradients overflow in fp16")


@pytest.mark.usefixtures("played")
def test_a_loss_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", solver=ONE_PASS)
    _, solver = trained(path, 2)
    spoilt = solver.net.params["score"][1]
    history = [array.clone() for array in solver.history]
    with torch.no_grad():
        spoilt[0] = float("nan")
    before = learned(solver)
    with pytest.raises(NotFinite, match="iteration 2"):
        solver.step(1)
    for value, after in zip(before, learned(solver), strict=True):
        torch.testing.assert_close(after, value, rtol=0, atol=0, equal_nan=True)
    assert all(map(torch.equal, history, solver.history))
    assert solver.iter == 2


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
    assert not solver._train_step._updates
    assert losses == plain
    check_same(solver, other)


def test_the_line_for_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: Lines
) -> None:
    told: list[str] = []
    monkeypatch.setattr(train_step.TrainStep, "_tell", lambda self, line: told.append(line))
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


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("what", ["step", "test", "snapshot", "display"])
def test_a_late_loss_is_reported_in_time(what: str, tmp_path: Path, lines: Lines) -> None:
    """Before the next update, a test, a snapshot, and a line with the loss."""
    text = ONE_PASS.replace("snapshot: 5", "snapshot: 0").replace("test_interval: 4", "")
    text = text.replace("test_iter: 2", "")
    text = text.replace("display: 1", "display: 3" if what == "display" else "display: 0")
    if what == "test":
        text += "test_iter: 2 test_interval: 4 test_initialization: false\n"
    path = write_training(tmp_path / "run", solver=text)
    _, solver = trained(path, 2, snapshot=None)
    before = learned(solver)
    step = solver._train_step
    reads: list[int] = []
    check = step._check_loss

    def spoilt(value: Any, index: int, iteration: int) -> None:
        reads.append(solver.iter)
        check((lambda: [float("inf")]) if iteration == 3 else value, index, iteration)

    step._check_loss = spoilt  # type: ignore[method-assign]
    if what == "snapshot":
        # As a signal asks for one after iteration 3.
        solver.requested = lambda: Action.SNAPSHOT if solver.iter == 4 else Action.NONE
    with pytest.raises(NotFinite, match="iteration 3") as caught:
        solver.step(4)
    assert caught.value.iteration == solver.iter == 3
    assert not any(map(torch.equal, before, learned(solver)))
    # The display of iteration 3 reads the loss before its end.
    assert reads[-1] == (3 if what == "display" else 4)
    assert not list(path.parent.glob("*_iter_4.*"))
    assert not lines.containing("Iteration 4, Testing net")


@pytest.mark.usefixtures("played")
def test_no_update_follows_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    """The device has played back a further pass before the host reads the loss."""
    text = ONE_PASS.replace("display: 1", "display: 0").replace("test_interval: 4", "")
    path = write_training(tmp_path / "run", solver=text.replace("test_iter: 2", ""))
    solver = Solver(path)
    solver.step(2)
    before, history = learned(solver), [array.clone() for array in solver.history]
    kept = statistics(solver)
    source: Any = solver.net.layers[0].source
    whole, read = source.read, []

    def spoilt(index: int) -> Any:
        data, label = whole(index)
        read.append(index)
        # One batch alone: the pass after it has a finite loss.
        return (data * np.float32("nan") if index == 2 else data), label

    source.read = spoilt
    with pytest.raises(NotFinite, match="iteration 2"):
        solver.step(5)
    assert 3 in read
    assert solver.iter == 2
    assert all(map(torch.equal, before, learned(solver)))
    assert all(map(torch.equal, history, solver.history))
    source.read = whole
    # Its batch has left no trace in the statistics, nor has the one after it.
    for buffer, value in zip(statistics(solver), kept, strict=True):
        assert torch.equal(buffer, value)
    solver.step(1)
    assert not any(map(torch.equal, before, learned(solver)))


@pytest.mark.usefixtures("played")
def test_a_loss_before_a_restored_state_is_not_read(tmp_path: Path) -> None:
    """An error ends the pass after it, so that nobody has read it yet."""
    text = ONE_PASS.replace("display: 1", "display: 0").replace("test_interval: 4", "")
    path = write_training(tmp_path / "run", solver=text.replace("test_iter: 2", ""))
    solver = Solver(path)
    solver.step(2)
    state = solver.snapshot()[1]
    source: Any = solver.net.layers[0].source
    whole = source.read

    def spoilt(index: int) -> Any:
        if index == 3:
            raise DataError("no such record")
        data, label = whole(index)
        return data * np.float32("nan"), label

    source.read = spoilt
    with pytest.raises(DataError):
        solver.step(5)
    source.read = whole
    for buffer in solver.net.buffers():
        buffer.data.nan_to_num_(1.0)
    solver.restore(state)
    before = learned(solver)
    solver.step(2)
    assert solver.iter == 4
    assert not any(map(torch.equal, before, learned(solver)))
