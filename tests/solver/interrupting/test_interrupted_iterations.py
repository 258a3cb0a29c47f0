"""SIGINT at any line of an iteration: whoever goes on gets the run that nothing has disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import caffecompat.pycaffe as caffe
from caffecompat.solver import Solver
from tests.solver.interrupting.interrupts import Interrupts
from tests.solver.small import SOLVER, write_training

# What a pass changes: statistics, a recurrent state, the number of the pass for Dropout.
NET = """
layer { name: "data" type: "HDF5Data" top: "data" top: "cont" hdf5_data_param {
  source: "list.txt" batch_size: 3 } }
layer { name: "lstm" type: "LSTM" bottom: "data" bottom: "cont" top: "lstm" recurrent_param {
  num_output: 4 weight_filler { type: "uniform" min: -0.5 max: 0.5 } } }
layer { name: "norm" type: "BatchNorm" bottom: "lstm" top: "norm" }
layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm" }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip" inner_product_param {
  axis: 2 num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 0.1
  reduction_param { operation: SUMSQ } }
"""
EVERY = (
    'net: "net.prototxt" base_lr: 0.02 max_iter: 100000 random_seed: 3 display: 2 average_loss: 3 '
    "weight_decay: 0.01 "
)
SGD = 'momentum: 0.9 lr_policy: "multistep" gamma: 0.9 stepvalue: 8 stepvalue: 8'
RULES = [
    SGD,
    'momentum: 0.9 lr_policy: "fixed" iter_size: 2 clip_gradients: 0.5',
    'type: "Adam" momentum: 0.9 momentum2: 0.99 lr_policy: "fixed"',
    'momentum: 0.9 lr_policy: "plateau" gamma: 0.9 plateau_winsize: 3',
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``net.prototxt`` and its data in the current directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    with h5py.File("a.h5", "w") as file:
        file["data"] = random.normal(size=(12, 2, 5)).astype("f4")
        file["cont"] = np.ones((12, 2), "f4")
    Path("list.txt").write_text("a.h5\n")
    Path("net.prototxt").write_text(NET)


def state(solver: Any) -> dict[str, Any]:
    """All that the iterations to come depend on."""
    training = getattr(solver, "_training", solver)
    found = {name: value.clone() for name, value in training.net.state_dict().items()}
    found |= {f"history {i}": array.clone() for i, array in enumerate(training.history)}
    for built in training.net.layers:
        for i, part in enumerate(getattr(built.layer, "state", None) or ()):
            found[f"{built.name}, state {i}"] = part
    return {**found, "policy": dict(vars(training._policy)), "iter": training.iter}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert list(one) == list(other)
    tensors = [name for name, value in one.items() if isinstance(value, torch.Tensor)]
    wrong = [name for name in tensors if not torch.equal(one[name], other[name])]
    return wrong + [name for name in one if name not in tensors and one[name] != other[name]]


def check_every_interrupt(straight: Any, stopped: Any, interrupts: Interrupts) -> set[str]:
    """Interrupts an iteration, makes one, and so on; returns the files that were interrupted."""
    files = set()
    while interrupts.during(lambda: stopped.step(1)):
        assert torch.is_grad_enabled(), interrupts.place
        stopped.step(1)
        straight.step(stopped.iter - straight.iter)
        assert not differences(state(stopped), state(straight)), interrupts.place
        files.add(interrupts.place.partition(":")[0])
    return files


PASS = {"solver/solver.py", "solver/train_step.py", "layers/batch_norm.py"}


@pytest.mark.parametrize("rule", RULES)
def test_an_interrupt_at_any_line(rule: str) -> None:
    Path("solver.prototxt").write_text(EVERY + rule)
    straight, stopped = Solver("solver.prototxt"), Solver("solver.prototxt")
    interrupts = Interrupts(RULES.index(rule) % 3, times=2 if "iter_size" in rule else 1)
    files = check_every_interrupt(straight, stopped, interrupts)
    assert files >= {*PASS, "layers/_recurrent.py", "solver/optim/optimizer.py"}


def test_an_interrupt_while_data_are_read(tmp_path: Path) -> None:
    """By threads that go on reading meanwhile."""
    text = SOLVER.replace("max_iter: 12", "max_iter: 100000").replace("snapshot: 5 ", "")
    text = text.replace("test_interval: 4", "test_interval: 100000")
    path = write_training(tmp_path / "run", solver=text)
    straight, stopped = Solver(path), Solver(path)
    files = check_every_interrupt(straight, stopped, Interrupts(0, whole="loader/prefetch.py"))
    assert files >= {*PASS, "data/loader/prefetch.py"}


@pytest.mark.usefixtures("played")
def test_an_interrupt_where_the_update_is_played_back() -> None:
    """The device makes it with the pass: it has been counted then."""
    text = NET.replace("LSTM", "InnerProduct").replace(' bottom: "cont"', "")
    text = text.replace("recurrent_param {", "inner_product_param { axis: 2")
    Path("net.prototxt").write_text(text + 'layer { name: "s" type: "Silence" bottom: "cont" }')
    Path("solver.prototxt").write_text(EVERY + SGD)
    straight, stopped = (Solver("solver.prototxt", precision="bf16") for _ in range(2))
    assert stopped._train_step._played.with_update
    straight.step(1)
    stopped.step(1)
    files = check_every_interrupt(straight, stopped, Interrupts(2))
    assert files >= {*PASS, "solver/played_passes.py"}


def test_an_interrupt_in_pycaffe() -> None:
    """With functions that it calls within an iteration, and a script that looks at values."""
    Path("solver.prototxt").write_text(EVERY + RULES[1])
    straight, stopped = (caffe.get_solver("solver.prototxt") for _ in range(2))
    for solver in (straight, stopped):
        gradient = solver.net.params["ip"][0]
        solver.add_callback(lambda: None, lambda blob=gradient: blob.diff)  # type: ignore[misc]
        views = solver.net.params["norm"][0].data, solver.net.blobs["norm"].data
        assert all(view.size for view in views)
    files = check_every_interrupt(straight, stopped, Interrupts(1))
    assert files >= {*PASS, "pycaffe/solvers/solver.py", "pycaffe/execution/layered_passes.py"}
