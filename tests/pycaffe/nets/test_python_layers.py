"""Python layers in nets of the pycaffe interface."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat import Net as TorchNet
from caffecompat import pycaffe as caffe
from tests.pycaffe.definitions import built

MODULE = '''
import caffe

class Scaled(caffe.Layer):
    """y = factor * w * x"""

    def setup(self, bottom, top):
        self.factor = float(self.param_str)
        self.calls = ["setup"]
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = 1

    def reshape(self, bottom, top):
        self.calls.append("reshape %s" % (tuple(bottom[0].shape),))
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        self.calls.append("forward")
        top[0].data[...] = self.factor * self.blobs[0].data * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.calls.append("backward %s" % (list(propagate_down),))
        bottom[0].diff[...] = self.factor * self.blobs[0].data * top[0].diff
        self.blobs[0].diff[...] += 1


class Phase(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        top[0].data[()] = self.phase


class FirstRow(caffe.Layer):
    """Doubles the first row; the others are the bottom's where it works in place."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[0] = 2 * bottom[0].data[0]

    def backward(self, top, propagate_down, bottom):
        # The data are those that the forward pass has left.
        bottom[0].diff[0] = top[0].diff[0] * bottom[0].data[0]


class Made(Phase):
    def __init__(self, message, *more):
        super(Made, self).__init__(message, *more)
        self.made_for = message.name
        if self.made_for == "bad":
            raise ZeroDivisionError("made")


class Failing(Phase):
    def setup(self, bottom, top):
        if self.param_str == "setup":
            raise RuntimeError("not today")

    def forward(self, bottom, top):
        raise StopIteration("no more data")


class Nothing(caffe.Layer):
    pass
'''

CHAIN = """force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "p" type: "Python" bottom: "x" top: "y"
        python_param { module: "user_layers" layer: "Scaled" param_str: "3" } }
layer { name: "q" type: "Python" bottom: "y" top: "z"
        python_param { module: "user_layers" layer: "Scaled" param_str: "5" } }
"""


def source(layer: str, parameters: str = "") -> str:
    return (
        f'layer {{ name: "s" type: "Python" top: "s" python_param {{ module: "user_layers" '
        f'layer: "{layer}" param_str: "{parameters}" }} }}'
    )


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "user_layers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("user_layers", None)


def test_values_and_gradients(tmp_path: Path) -> None:
    net = built(tmp_path, CHAIN)
    net.blobs["x"].data[...] = 2
    net.forward()
    assert (net.blobs["z"].data == 30).all()
    net.blobs["z"].diff[...] = 7
    net.backward()
    assert (net.blobs["x"].diff == 105).all()


def test_backward_without_forward(tmp_path: Path) -> None:
    net = built(tmp_path, CHAIN)
    net.blobs["z"].diff[...] = 7
    net.backward()
    assert (net.blobs["x"].diff == 105).all()


def test_the_calls_of_a_layer(tmp_path: Path) -> None:
    net = built(tmp_path, CHAIN)
    layer = net.layers[1]
    assert layer is net.layer_dict["p"]
    assert layer.type == "Python"
    net.forward()
    net.backward()
    net.blobs["x"].reshape(4, 3)
    net.reshape()
    net.forward()
    assert layer.calls == [
        "setup",
        "reshape (2, 3)",
        "reshape (2, 3)",
        "forward",
        "backward [True]",
        "reshape (4, 3)",
        "reshape (4, 3)",
        "forward",
    ]


def test_its_parameters_are_those_of_the_net(tmp_path: Path) -> None:
    net = built(tmp_path, CHAIN)
    layer = net.layer_dict["p"]
    net.params["p"][0].data[...] = 4
    assert layer.blobs[0].data[0] == 4
    net.blobs["x"].data[...] = 1
    assert (net.forward()["z"] == 60).all()
    net.backward()
    net.backward()
    assert net.params["p"][0].diff == 2
    net.save(tmp_path / "weights")
    layer.blobs[0].data[0] = -1
    net.copy_from(tmp_path / "weights")
    assert layer.blobs[0].data[0] == 4
    other = built(tmp_path, CHAIN)
    other.share_with(net)
    assert other.layer_dict["p"].blobs[0].data[0] == 4


def test_the_phase(tmp_path: Path) -> None:
    for phase in (caffe.TRAIN, caffe.TEST):
        net = built(tmp_path, source("Phase"), phase)
        assert net.forward()["s"] == phase
        shown = net.layers[0].phase
        assert (shown, {0: "a", 1: "b"}[shown]) == (phase, "ab"[phase])
        # Layers of py-faster-rcnn look up str(self.phase).
        assert f"{shown} {shown:d}" == f"{('TRAIN', 'TEST')[phase]} {phase}"
        assert json.dumps([shown]) == f"[{phase}]"


def test_exceptions_are_those_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^not today$"):
        built(tmp_path, source("Failing", "setup"))
    net = built(tmp_path, source("Failing"))
    with pytest.raises(StopIteration, match="no more data"):
        net.forward()
    with pytest.raises(ValueError, match="could not convert string to float"):
        built(tmp_path, CHAIN.replace('"5"', '"five"'))
    with pytest.raises(NotImplementedError, match="Nothing has no setup"):
        built(tmp_path, source("Nothing"))
    with pytest.raises(ModuleNotFoundError, match="other_layers"):
        built(tmp_path, source("Phase").replace("user_layers", "other_layers"))


def test_a_solver_trains_its_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = CHAIN.replace(
        '"Input" top: "x" input_param {', '"DummyData" top: "x" dummy_data_param {'
    )
    loss = 'layer { name: "l" type: "Reduction" bottom: "z" top: "l" loss_weight: 1 }'
    (tmp_path / "net.prototxt").write_text(text + loss)
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.25 lr_policy: "fixed" max_iter: 2 iter_size: 2 '
        "snapshot_after_train: false"
    )
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(1)
    # The layer adds 1 in each of two passes, whose mean is the gradient.
    np.testing.assert_allclose(solver.net.params["p"][0].data, 0.75)
    np.testing.assert_allclose(solver.net.params["p"][0].diff, 0.25)


def test_the_constructor_gets_the_layer_parameter(tmp_path: Path) -> None:
    net = built(tmp_path, source("Made"))
    assert net.layers[0].made_for == "s"
    with pytest.raises(ZeroDivisionError, match=r"^made$"):
        built(tmp_path, source("Made").replace('name: "s"', 'name: "bad"'))


@pytest.mark.parametrize("wanted", [True, False])
def test_propagate_down_false_runs_the_layer_without_a_gradient(
    tmp_path: Path, wanted: bool
) -> None:
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
            inner_product_param { num_output: 2 } }
    layer { name: "p" type: "Python" bottom: "ip" top: "y" propagate_down: WANTED
            python_param { module: "user_layers" layer: "Scaled" param_str: "3" } }
    layer { name: "l" type: "Reduction" bottom: "y" top: "l" loss_weight: 1 }
    """
    net = built(tmp_path, text.replace("WANTED", str(wanted).lower()), caffe.TRAIN)
    net.forward(x=np.ones((2, 3)))
    net.backward()
    assert net.layers[2].calls[-1] == f"backward [{wanted}]"
    assert net.params["p"][0].diff == 1
    assert net.params["ip"][0].diff.any() == wanted


IN_PLACE = """force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "t" type: "TanH" bottom: "x" top: "y" }
layer { name: "p" type: "Python" bottom: "y" top: "y"
        python_param { module: "user_layers" layer: "FirstRow" } }
layer { name: "z" type: "Power" bottom: "y" top: "z" power_param { scale: 5 } }
"""


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
@pytest.mark.parametrize("viewed", [True, False])
def test_in_place(tmp_path: Path, phase: int, viewed: bool) -> None:
    net = built(tmp_path, IN_PLACE, phase)
    view = net.blobs["y"].data if viewed else None
    x = np.array([[0.5, -1, 2], [3, 0.1, -0.2]], np.float32)
    for _ in range(2):
        net.forward(x=x)
        expected = np.tanh(x) * [[2], [1]]
        np.testing.assert_allclose(net.blobs["y"].data, expected, rtol=1e-5)
        assert view is None or np.array_equal(view, net.blobs["y"].data)
        net.backward(z=np.ones((2, 3)))
        outer = 5 * np.array([expected[0], np.ones(3)])
        np.testing.assert_allclose(
            net.blobs["x"].diff, outer * (1 - np.tanh(x) ** 2), rtol=1e-4, atol=1e-6
        )


def test_in_place_in_a_net_of_this_package(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(IN_PLACE)
    net = TorchNet(tmp_path / "net.prototxt", allow_python=True)
    x = torch.tensor([[0.5, -1, 2], [3, 0.1, -0.2]])
    net.forward(x=x)
    expected = torch.tanh(x) * torch.tensor([[2.0], [1]])
    torch.testing.assert_close(net.blobs["z"].data, 5 * expected)
    net.backward(z=torch.ones(2, 3))
    outer = 5 * torch.stack([expected[0], torch.ones(3)])
    torch.testing.assert_close(net.blobs["x"].diff, outer * (1 - torch.tanh(x) ** 2))
