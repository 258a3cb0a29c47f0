"""The pycaffe interface against what pycaffe of BVLC Caffe 1.0 did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import CaffeError
from caffecompat import pycaffe as caffe
from tests.recorded.cases import read_json

Arrays = dict[str, Any]
SOLVERS = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")


class Recorded:
    """The recorded facts and arrays; the current folder is a copy of theirs."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = read_json(folder / "pycaffe.json")
        with np.load(folder / "pycaffe.npz") as arrays:
            self.arrays = dict(arrays)

    def below(self, prefix: str) -> Arrays:
        """The arrays whose keys begin with ``prefix``, by the rest of the key."""
        start = len(prefix) + 1
        return {k[start:]: v for k, v in self.arrays.items() if k.startswith(f"{prefix}/")}

    def check(self, found: Arrays, prefix: str, rtol: float = 1e-4, atol: float = 1e-5) -> None:
        wanted = self.below(prefix)
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            assert found[key].shape == value.shape
            np.testing.assert_allclose(found[key], value, rtol, atol, err_msg=f"{prefix}/{key}")

    def check_net(self, net: caffe.Net, prefix: str) -> None:
        """Data and gradients of all blobs and parameters."""
        found: Arrays = {}
        for name, blob in net.blobs.items():
            found |= {f"data/{name}": blob.data, f"diff/{name}": blob.diff}
        for name, blobs in net.params.items():
            for i, blob in enumerate(blobs):
                found |= {f"pdata/{name}/{i}": blob.data, f"pdiff/{name}/{i}": blob.diff}
        self.check(found, prefix)


@pytest.fixture
def case(golden: Path, enter: Callable[[Path], Path]) -> Iterator[Recorded]:
    folder = enter(golden / "pycaffe")
    sys.path.insert(0, str(folder))
    yield Recorded(folder)
    sys.path.remove(str(folder))
    sys.modules.pop("lifelayer", None)


def open_net(name: str) -> caffe.Net:
    return caffe.Net(f"{name}.prototxt", caffe.TEST, weights=f"{name}.caffemodel")


NETS = ("chain", "fork", "bn")


@pytest.mark.parametrize("name", NETS)
def test_structure(case: Recorded, name: str) -> None:
    net, facts = open_net(name), case.facts["nets"][name]
    found = {
        "inputs": net.inputs,
        "outputs": net.outputs,
        "blobs": [[key, list(blob.shape)] for key, blob in net.blobs.items()],
        "legacy": {
            key: [blob.num, blob.channels, blob.height, blob.width]
            for key, blob in net.blobs.items()
        },
        "params": [[key, [list(b.shape) for b in blobs]] for key, blobs in net.params.items()],
        "layer_names": list(net._layer_names),
        "layer_types": [layer.type for layer in net.layers],
        "layer_dict": {key: layer.type for key, layer in net.layer_dict.items()},
        "top_names": dict(net.top_names),
        "bottom_names": dict(net.bottom_names),
        "loss_weights": dict(net.blob_loss_weights),
    }
    assert {key: facts[key] for key in found} == found


@pytest.mark.parametrize("name", NETS)
def test_passes(case: Recorded, name: str) -> None:
    net, facts = open_net(name), case.facts["nets"][name]
    views = {f"data/{key}": blob.data for key, blob in net.blobs.items()}
    assert sorted(net.forward(**case.below(f"{name}/in"))) == facts["forward_returns"]
    case.check_net(net, f"{name}/f1")
    after = {key: value for key, value in case.below(f"{name}/f1").items() if key in views}
    for key, value in after.items():
        np.testing.assert_allclose(views[key], value, 1e-4, 1e-5)
    tops = case.below(f"{name}/topdiff")
    for state in ("b1", "b2_accumulated"):
        net.backward(**tops)
        case.check_net(net, f"{name}/{state}")
    net.clear_param_diffs()
    assert not any(blob.diff.any() for blobs in net.params.values() for blob in blobs)


def test_partial_passes(case: Recorded) -> None:
    net, facts, inputs = open_net("chain"), case.facts["nets"]["chain"], case.below("chain/in")
    net.forward(**inputs)
    net.backward()
    net.backward()
    net.clear_param_diffs()
    net.blobs["pool"].data[...] = case.arrays["chain/mid"]
    partial = net.forward(start="ip", end="ip")
    assert sorted(partial) == facts["partial_returns"]
    case.check(partial, "chain/partial")
    asked = net.forward(blobs=["conv", "pool"], **inputs)
    assert sorted(asked) == facts["forward_blobs_returns"]
    assert sorted(net.forward(end="pool", **inputs)) == facts["forward_end_returns"]
    net.forward(**inputs)
    found = net.backward(diffs=["conv"], start="loss", end="conv")
    assert sorted(found) == facts["backward_diffs_returns"]
    net.forward(**inputs)
    assert sorted(net.backward(start="ip", end="pool")) == facts["backward_partial_returns"]
    case.check_net(net, "chain/bpartial")


def test_a_reshaped_net(case: Recorded) -> None:
    net = open_net("chain")
    net.blobs["data"].reshape(1, 3, 9, 8)
    net.blobs["label"].reshape(1)
    net.reshape()
    shapes = [[key, list(blob.shape)] for key, blob in net.blobs.items()]
    assert shapes == case.facts["nets"]["chain"]["reshaped"]
    data = case.arrays["chain/reshaped/data"]
    found = net.forward(data=data, label=np.array([1], np.float32), blobs=["ip"])
    case.check({"data": data, **found}, "chain/reshaped")


def test_more_samples_than_a_batch(case: Recorded) -> None:
    net = open_net("fork")
    inputs, tops = case.below("fork/all/in"), case.below("fork/all/topdiff")
    outs, diffs = net.forward_backward_all(blobs=["e"], diffs=["p"], **inputs, **tops)
    case.check(outs, "fork/all/out")
    case.check(diffs, "fork/all/diff")
    net = open_net("bn")
    found = net.forward_all(data=case.arrays["bn/forward_all/in"], blobs=["gp"])
    case.check({**found, "in": case.arrays["bn/forward_all/in"]}, "bn/forward_all")


def test_weight_files(case: Recorded) -> None:
    net, other = open_net("fork"), caffe.Net("fork.prototxt", caffe.TEST)
    other.load_hdf5("fork.h5")
    for name, blobs in net.params.items():
        for blob, loaded in zip(blobs, other.params[name], strict=True):
            np.testing.assert_array_equal(loaded.data, blob.data)


def test_surgery(case: Recorded) -> None:
    source = open_net("chain")
    net = caffe.Net("conv.prototxt", "chain.caffemodel", caffe.TEST)
    net.params["ip_conv"][0].data.flat = source.params["ip"][0].data.flat  # type: ignore[misc]
    net.params["ip_conv"][1].data[...] = source.params["ip"][1].data
    found = net.forward(data=case.arrays["surgery/in"])["ip_conv"]
    np.testing.assert_allclose(found, case.arrays["surgery/out"], 1e-4, 1e-5)


def kind_of(recorded: str) -> type[Exception]:
    """The exception that a script written for pycaffe catches."""
    name = recorded.partition(":")[0]
    kinds = {"ArgumentError": TypeError, "Exception": Exception, "RuntimeError": RuntimeError}
    builtin = {"ValueError": ValueError, "KeyError": KeyError, "AttributeError": AttributeError}
    return {**kinds, **builtin}[name]


def test_mistakes(case: Recorded) -> None:
    net, rows = open_net("chain"), np.zeros((2, 3, 9, 8), np.float32)
    many: Arrays = {"data": np.zeros((7, 3, 9, 8)), "label": np.zeros(7)}
    arrays = (rows, np.zeros(2, np.float32))
    blob = net.blobs["ip"]
    calls: dict[str, Callable[[], object]] = {
        "unknown input": lambda: net.forward(nope=rows),
        "input missing": lambda: net.forward(data=rows),
        "wrong batch": lambda: net.forward(**many),
        "wrong dtype": lambda: blob.data.__setitem__(..., "text"),
        "set_input_arrays": lambda: net.set_input_arrays(*arrays),
        "unknown start": lambda: net.forward(start="nope"),
        "unknown blob": lambda: net.blobs["nope"],
        "unknown in blobs": lambda: net.forward(blobs=["nope"]),
        "unknown diff": lambda: net.backward(nope=rows),
        "missing file": lambda: caffe.Net("missing.prototxt", caffe.TEST),
        "missing weights": lambda: caffe.Net("chain.prototxt", "missing.caffemodel", caffe.TEST),
        "assign wrong shape": lambda: blob.data.__setitem__(..., np.zeros((5, 5, 5))),
        "set data attribute": lambda: setattr(blob, "data", 0),
        "no phase": lambda: caffe.Net("chain.prototxt"),
    }
    recorded = case.facts["nets"]["chain"]["mistakes"]
    assert set(calls) == set(recorded)
    for name, call in calls.items():
        with pytest.raises(kind_of(recorded[name])) as caught:
            call()
        of_numpy = name in ("wrong dtype", "assign wrong shape", "set data attribute")
        assert isinstance(caught.value, CaffeError) is not of_numpy, name


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(case: Recorded, name: str) -> None:
    facts = case.facts["solvers"][name]
    solver = caffe.get_solver(f"s_{name}.prototxt")
    calls: list[str] = []
    solver.add_callback(
        lambda: calls.append(f"start {solver.iter}"), lambda: calls.append(f"ready {solver.iter}")
    )
    blobs = solver.net.params["ip"]

    def values(parts: tuple[str, ...]) -> Arrays:
        return {f"{part}/{i}": getattr(blobs[i], part) for part in parts for i in (0, 1)}

    for k in range(4):
        solver.step(1)
        case.check(values(("data", "diff")), f"solver/{name}/{k}", atol=1e-8)
    solver.snapshot()
    assert sorted(path.name for path in Path().glob("snap_*")) == facts["snapshot"]
    assert calls == facts["callbacks"]
    assert (solver.iter, solver.lr) == (facts["iter"], facts["lr"])
    assert len(solver.test_nets) == facts["test_nets"]
    assert [solver.param.max_iter, solver.param.display] == facts["param"]
    assert [c.__name__ for c in type(solver).__mro__] == [
        base for base in facts["mro"] if base != "instance"
    ]
    assert set(facts["attributes"]) <= set(dir(solver))
    solver.net.clear_param_diffs()
    solver.net.forward()
    solver.net.backward()
    solver.apply_update()
    case.check(values(("data",)), f"solver/{name}/applied", atol=1e-8)
    solver.restore(f"snap_{name}_iter_4.solverstate")
    assert solver.iter == facts["restored_iter"]
    case.check(values(("data",)), f"solver/{name}/restored", atol=1e-8)


def test_the_life_of_a_python_layer(case: Recorded) -> None:
    net = caffe.Net("life.prototxt", caffe.TRAIN)
    net.forward(x=np.ones((2, 3), np.float32))
    net.backward()
    net.blobs["x"].reshape(4, 3)
    net.reshape()
    net.forward()
    assert case.facts["life"] == sys.modules["lifelayer"].LOG
    case.check_net(net, "life")


def test_public_names(case: Recorded) -> None:
    surface = case.facts["surface"]
    assert set(surface["caffe"]) <= set(dir(caffe))
    blob = type(open_net("chain").blobs["ip"])
    for name, owner in (("Net", caffe.Net), ("Blob", blob), ("Layer", caffe.Layer)):
        assert set(surface[name]) <= set(dir(owner))
    assert set(case.facts["layer_type_list"]) <= set(caffe.layer_type_list())
    assert case.facts["version"] == caffe.__version__
