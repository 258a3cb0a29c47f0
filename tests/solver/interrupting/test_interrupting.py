"""KeyboardInterrupt, and exceptions of layers, in a training that then goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.solver import Callback, Solver
from caffecompat.solver.signals import uninterrupted
from tests.solver.small import SOLVER, write_training

NET = """
layer { name: "data" type: "HDF5Data" top: "data" top: "cont" hdf5_data_param {
  source: "list.txt" batch_size: 3 } }
layer { name: "lstm" type: "LSTM" bottom: "data" bottom: "cont" top: "lstm" recurrent_param {
  num_output: 4 weight_filler { type: "uniform" min: -0.5 max: 0.5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "lstm" top: "ip" inner_product_param {
  axis: 2 num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 0.1
  reduction_param { operation: SUMSQ } }
"""


def values(solver: Solver) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in solver.net.state_dict().items()}


def interrupted_at(solver: Solver, layer: str, error: type[BaseException]) -> None:
    """Makes one step in which ``layer`` raises when it has run."""

    def fail(module: Any, bottoms: Any, tops: Any) -> None:
        raise error

    module = next(built.module for built in solver.net.layers if built.name == layer)
    assert module is not None
    handle = module.register_forward_hook(fail)
    at = solver.iter
    with pytest.raises(error):
        solver.step(1)
    handle.remove()
    assert solver.iter == at


def assert_same(one: Solver, other: Solver) -> None:
    assert one.iter == other.iter
    first, second = values(one), values(other)
    assert list(first) == list(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("layer", ["relu", "loss"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_running_statistics_count_an_interrupted_pass_once(
    tmp_path: Path, layer: str, error: type[BaseException]
) -> None:
    path = write_training(tmp_path / "run", "random_seed: 7 max_iter: 9", SOLVER_OF_9)
    straight, stopped = Solver(path), Solver(path)
    straight.step(5)
    for steps in (2, 3):
        interrupted_at(stopped, layer, error)
        stopped.step(steps)
    assert_same(stopped, straight)


SOLVER_OF_9 = SOLVER.replace("max_iter: 12\n", "").replace("snapshot: 5 ", "")


def test_the_state_of_a_recurrent_layer_is_that_before_an_interrupted_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import h5py

    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    with h5py.File("a.h5", "w") as file:
        file["data"] = random.normal(size=(12, 2, 5)).astype("f4")
        file["cont"] = np.ones((12, 2), "f4")
    Path("list.txt").write_text("a.h5\n")
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.05 lr_policy: "fixed" max_iter: 9 random_seed: 3'
    )
    straight, stopped = Solver("solver.prototxt"), Solver("solver.prototxt")
    straight.step(4)
    stopped.step(2)
    interrupted_at(stopped, "ip", KeyboardInterrupt)
    stopped.step(2)
    assert_same(stopped, straight)


class Failing(Callback):
    """Raises at the display of an iteration, which comes between its passes and its update."""

    def __init__(self, iteration: int, error: type[BaseException]) -> None:
        self.iteration: int | None = iteration
        self.error = error

    def displayed(self, solver: Any, outputs: Any) -> None:
        if solver.iter == self.iteration:
            self.iteration = None
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_between_passes_and_update(tmp_path: Path, error: type[BaseException]) -> None:
    path = write_training(tmp_path / "run", "random_seed: 7 max_iter: 9", SOLVER_OF_9)
    straight, stopped = Solver(path), Solver(path)
    straight.step(5)
    stopped.callbacks.append(Failing(2, error))
    with pytest.raises(error):
        stopped.step(5)
    assert stopped.iter == 2
    stopped.step(3)
    assert_same(stopped, straight)


def test_an_update_is_made_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_training(tmp_path / "run", "random_seed: 7 max_iter: 9", SOLVER_OF_9)
    straight, stopped = Solver(path), Solver(path)
    straight.step(3)
    stopped.step(1)
    apply = stopped._optimizer.apply

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return apply(*arguments, **keywords)

    monkeypatch.setattr(stopped._optimizer, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.step(1)
    assert stopped.iter == 2
    monkeypatch.setattr(stopped._optimizer, "apply", apply)
    stopped.step(1)
    assert_same(stopped, straight)


def test_other_handlers_are_left_alone() -> None:
    seen: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, previous)
