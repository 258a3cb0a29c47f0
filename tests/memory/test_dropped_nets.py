"""Nets that nothing refers to any more give their memory back without the garbage collector.

It counts objects, not bytes: a program that builds one net after another could fill the memory, or
that of the GPU, before it looks for cycles.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caffecompat import Net, Solver
from caffecompat import pycaffe as caffe
from tests.net.nets import CLASSIFIER, batch, net, saved
from tests.solver.small import write_training

Use = Callable[[Path], tuple[Any, Net]]


def _forward(folder: Path) -> tuple[Any, Net]:
    used = net(CLASSIFIER)
    used.forward(**batch())
    return used, used


def _backward(folder: Path) -> tuple[Any, Net]:
    used = net(CLASSIFIER, phase="train")
    used.forward(**batch())
    used.backward()
    return used, used


def _run(folder: Path) -> tuple[Any, Net]:
    used = net(CLASSIFIER, phase="train")
    used.observe = True
    used.run(0).loss.backward()
    return used, used


def _compiled(folder: Path) -> tuple[Any, Net]:
    used = net(CLASSIFIER)
    used.compile(backend="eager")
    used.run(0)
    return used, used


def _solver(folder: Path) -> tuple[Any, Net]:
    solver = Solver(write_training(folder))
    solver.step(2)
    solver.test_all()
    solver.close()
    return solver, solver.net


def _pycaffe_net(folder: Path) -> tuple[Any, Net]:
    used = caffe.Net(str(saved(folder, CLASSIFIER)), caffe.TRAIN)
    inputs: dict[str, Any] = batch()
    used.forward(**inputs)
    assert used.blobs["fc"].data.any()
    used.backward()
    assert used.params["fc"][0].diff.any()
    return used, used.torch_net


def _pycaffe_solver(folder: Path) -> tuple[Any, Net]:
    solver = caffe.SGDSolver(str(write_training(folder)))
    values = solver.net.blobs["score"].data
    solver.step(2)
    assert values.any()
    assert solver.net.params["score"][0].diff.any()
    return solver, solver.net.torch_net


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _left(make: Use, folder: Path) -> list[str]:
    """What is left of a net after its use."""
    user, used = make(folder)
    kept: dict[str, weakref.ref[Any]] = {n: weakref.ref(p) for n, p in used.named_parameters()}
    kept["net"] = weakref.ref(used)
    del user, used
    return [name for name, reference in kept.items() if reference() is not None]


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize(
    "make",
    [_forward, _backward, _run, _compiled, _solver, _pycaffe_net, _pycaffe_solver],
    ids=lambda make: make.__name__[1:],
)
def test_a_dropped_net_frees_its_parameters(make: Use, tmp_path: Path) -> None:
    assert _left(make, tmp_path) == []


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_a_dropped_optimized_net_frees_its_copies(engine: str) -> None:
    if engine != "torch":
        pytest.importorskip(engine)
    used = net(CLASSIFIER)
    made = used.optimize(engine)
    used.forward(data=batch()["data"])
    assert made is not None
    program: Any = made.program
    # The module of the engine torch holds the copies of the weights; those of others hold them.
    copies = [weakref.ref(copy) for copy in (program, getattr(program, "module", program))]
    del used, made, program
    assert [copy() for copy in copies] == [None, None]
