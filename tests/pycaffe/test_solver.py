"""Solvers: steps, updates, callbacks, snapshots, test nets."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caffecompat import Solver as TorchSolver
from caffecompat import pycaffe as caffe
from tests.pycaffe.definitions import CLASSIFIER

SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 2
momentum: 0.9 weight_decay: 0.001 max_iter: 5 snapshot_prefix: "model" test_iter: 2
test_interval: 3 random_seed: 5 snapshot_after_train: false
"""


@pytest.fixture(autouse=True)
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(CLASSIFIER)
    Path("solver.prototxt").write_text(SOLVER)


def test_training_equals_the_solver_of_this_package() -> None:
    expected = TorchSolver("solver.prototxt")
    expected.solve()
    solver = caffe.SGDSolver("solver.prototxt")
    solver.solve()
    assert solver.iter == expected.iter == 5
    for name, blobs in expected.net.params.items():
        for blob, found in zip(blobs, solver.net.params[name], strict=True):
            np.testing.assert_allclose(found.data, blob.data, rtol=1e-5, atol=1e-7)


def test_after_a_step_blobs_and_gradients_are_there() -> None:
    solver = caffe.get_solver("solver.prototxt")
    weight = solver.net.params["ip"][0]
    data, diff, loss = weight.data, weight.diff, solver.net.blobs["loss"].data
    before, losses = data.copy(), []
    for _ in range(3):
        solver.step(1)
        np.testing.assert_allclose(before - data, diff, rtol=1e-3, atol=1e-6)
        before = data.copy()
        losses.append(float(loss))
        assert solver.net.blobs["conv"].diff.any()
    assert len(set(losses)) == 3
    assert losses[-1] == float(solver.net.blobs["loss"].data)


def test_gradients_that_are_first_read_after_some_steps_are_the_last_update() -> None:
    solver = caffe.get_solver("solver.prototxt")
    torch_net = solver.net.torch_net
    assert all(parameter.grad is None for parameter in torch_net.parameters())
    solver.step(2)
    before = solver.net.params["ip"][0].data.copy()
    solver.step(1)
    diff = solver.net.params["ip"][0].diff
    change = before - solver.net.params["ip"][0].data
    np.testing.assert_allclose(diff, change, rtol=1e-3, atol=1e-6)
    update = diff.copy()
    solver.net.forward()
    solver.net.backward()
    assert not np.allclose(diff, update)
    solver.step(1)
    assert np.abs(diff).max() < 1


def test_apply_update() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    weight = solver.net.layers[1].blobs[0]
    data = weight.data[...]
    data[...] = 0
    weight.diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(data, -0.01, atol=1e-7)
    assert solver.iter == 1
    solver.net.clear_param_diffs()
    solver.net.forward()
    solver.net.backward()
    gradient = weight.diff.copy()
    solver.apply_update()
    # Momentum, then the rate times gradient and decay.
    expected = -0.01 - (0.9 * 0.01 + 0.01 * (gradient - 0.001 * 0.01))
    np.testing.assert_allclose(data, expected, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_is_that_of_the_next_update() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    rates = []
    for _ in range(3):
        rates.append(solver.lr)
        solver.step(1)
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.001], rtol=1e-6)


def test_callbacks() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    calls: list[tuple[str, int]] = []

    def ready() -> None:
        calls.append(("ready", solver.iter))
        solver.net.params["conv"][0].diff[...] = 0
        solver.net.params["conv"][0].data[...] = 0

    solver.add_callback(lambda: calls.append(("start", solver.iter)), ready)
    solver.step(2)
    assert calls == [("start", 0), ("ready", 0), ("start", 1), ("ready", 1)]
    assert not solver.net.params["conv"][0].data.any()


def test_snapshot_and_restore() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(2)
    solver.snapshot()
    assert Path("model_iter_2.caffemodel").is_file()
    weight = solver.net.params["ip"][0].data
    saved = weight.copy()
    solver.step(2)
    later = weight.copy()
    solver.restore("model_iter_2.solverstate")
    assert solver.iter == 2
    np.testing.assert_array_equal(weight, saved)
    solver.step(2)
    np.testing.assert_array_equal(weight, later)
    other = caffe.SGDSolver("solver.prototxt")
    other.solve("model_iter_2.solverstate")
    assert other.iter == 5


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_gradients_of_a_snapshot_are_restored(suffix: str) -> None:
    """As in Caffe, with ``snapshot_diff: true``; those of an HDF5 file are not."""
    more = "snapshot_diff: true snapshot_format: " + ("HDF5" if suffix else "BINARYPROTO")
    Path("diffs.prototxt").write_text(Path("solver.prototxt").read_text() + more)
    solver = caffe.SGDSolver("diffs.prototxt")
    solver.step(2)
    solver.snapshot()
    saved = [blob.diff.copy() for blobs in solver.net.params.values() for blob in blobs]
    other = caffe.SGDSolver("diffs.prototxt")
    found = [blob.diff for blobs in other.net.params.values() for blob in blobs]
    for diff in found:
        diff[...] = 7
    other.restore(f"model_iter_2.solverstate{suffix}")
    assert any(diff.any() for diff in saved)
    for diff, expected in zip(found, saved, strict=True):
        np.testing.assert_array_equal(diff, 7 if suffix else expected)


def test_test_nets_share_weights_but_not_gradients() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    (test,) = solver.test_nets
    solver.step(1)
    np.testing.assert_array_equal(test.params["ip"][0].data, solver.net.params["ip"][0].data)
    assert not test.params["ip"][0].diff.any()
    assert float(test.blobs["loss"].data) > 0  # the test before the first iteration
    test.forward(start="conv")
    other = caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(other)
    solver.net.params["ip"][1].data[...] = 8
    assert (other.params["ip"][1].data == 8).all()
    assert (test.params["ip"][1].data == 8).all()


def test_nets_outlive_the_solver() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    nets = [solver.net, *solver.test_nets]
    del solver
    for net in nets:
        assert np.isfinite(net.forward()["loss"])
        assert all(np.isfinite(blob.diff.sum()) for blob in net.blobs.values())


@pytest.mark.parametrize("name", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_solver_types(name: str) -> None:
    momentum = 0 if name in ("AdaGrad", "RMSProp") else 0.5
    text = SOLVER.replace("momentum: 0.9", f"momentum: {momentum}")
    Path("solver.prototxt").write_text(f'{text} type: "{name}"')
    solver = caffe.get_solver("solver.prototxt")
    assert type(solver) is getattr(caffe, f"{name}Solver")
    assert isinstance(solver, caffe.SGDSolver)
    solver.step(1)
    assert solver.param.type == name
    assert solver.param.max_iter == 5


def test_the_class_decides_the_type() -> None:
    Path("solver.prototxt").write_text(SOLVER + 'type: "SGD"')
    adam, sgd = caffe.AdamSolver("solver.prototxt"), caffe.SGDSolver("solver.prototxt")
    for solver in (adam, sgd):
        solver.step(1)
    assert not np.allclose(adam.net.params["ip"][0].data, sgd.net.params["ip"][0].data)


def test_a_loss_that_is_not_finite_ends_nothing() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    solver.net.params["ip"][1].data[0] = np.nan
    solver.step(1)
    assert np.isnan(solver.net.blobs["loss"].data)


def test_missing_files() -> None:
    for make in (caffe.SGDSolver, caffe.get_solver):
        with pytest.raises(RuntimeError, match=r"missing\.prototxt: there is no such file"):
            make("missing.prototxt")
    Path("net.prototxt").unlink()
    with pytest.raises(RuntimeError, match=r"net\.prototxt"):
        caffe.SGDSolver("solver.prototxt")


def test_base_lr_can_be_set_between_updates() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    solver.param.base_lr = 0.5
    assert solver.lr == solver.param.base_lr == 0.5
    solver.net.clear_param_diffs()
    solver.net.params["ip"][1].diff[...] = 2
    before = solver.net.params["ip"][1].data.copy()
    solver.apply_update()
    np.testing.assert_allclose(before - solver.net.params["ip"][1].data, 1, rtol=1e-6)
    solver.step(1)
    assert solver.lr == pytest.approx(0.05)
    words = "set, only base_lr: change the definition and build the solver again"
    with pytest.raises(AttributeError, match=rf"param\.max_iter cannot be {words}"):
        solver.param.max_iter = 7
    assert "max_iter: 5" in str(solver.param)
    assert {"max_iter", "base_lr"} <= set(dir(solver.param))
    with pytest.raises(AttributeError):
        _ = solver.param.baselr
    definition = Path("solver.prototxt")
    definition.write_text(definition.read_text().replace("max_iter: 5", "max_iter: 7"))
    assert caffe.SGDSolver("solver.prototxt").param.max_iter == 7


def test_passes_of_a_script_take_the_next_data() -> None:
    """As in Caffe, passes of a solver and of a script read on where the last one has stopped."""
    with h5py.File("rows.h5", "w") as file:
        file["data"] = np.arange(20, dtype=np.float32).reshape(20, 1)
    Path("rows.txt").write_text("rows.h5\n")
    Path("net.prototxt").write_text(
        """layer { name: "data" type: "HDF5Data" top: "data"
                   hdf5_data_param { source: "rows.txt" batch_size: 1 } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
                inner_product_param { num_output: 1 } }
        layer { name: "sum" type: "Reduction" bottom: "ip" top: "sum" loss_weight: 1 }"""
    )
    Path("solver.prototxt").write_text(SOLVER + "iter_size: 2 test_initialization: false")
    solver = caffe.get_solver("solver.prototxt")
    net, test_net = solver.net, solver.test_nets[0]

    def row(of: caffe.Net) -> float:
        return float(of.blobs["data"].data[0, 0])

    net.forward()
    assert row(net) == 0
    solver.step(1)
    assert row(net) == 2  # rows 1 and 2
    net.forward(end="data")
    net.backward()
    solver.apply_update()
    assert (row(net), solver.iter) == (3, 2)
    solver.step(1)
    assert row(net) == 5
    test_net.forward()
    assert row(test_net) == 0
    solver.step(1)  # tests before iteration 3, with two passes
    assert (row(test_net), row(net)) == (2, 7)
    test_net.forward()
    assert row(test_net) == 3


def test_a_solver_is_restored_after_updates_without_passes() -> None:
    solver = caffe.get_solver("solver.prototxt")
    solver.step(1)
    solver.snapshot()
    for _ in range(3):
        solver.apply_update()
    solver.step(1)
    solver.restore("model_iter_1.solverstate")
    solver.step(1)
    assert solver.iter == 2
