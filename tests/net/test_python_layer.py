"""Python layers: pycaffe's protocol inside autograd, and only where it was allowed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.net.nets import net

MODULE = '''
import json
import numpy as np
import caffe


class ScaledSum(caffe.Layer):
    """y = factor * (a + b) * w"""

    def setup(self, bottom, top):
        self.factor = json.loads(self.param_str)["factor"]
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 3

    def reshape(self, bottom, top):
        if bottom[0].data.shape != bottom[1].data.shape:
            raise Exception("shapes differ")
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * (bottom[0].data + bottom[1].data) * self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if propagate_down[i]:
                bottom[i].diff[...] = self.factor * top[0].diff * self.blobs[0].data
        total = self.factor * (bottom[0].data + bottom[1].data) * top[0].diff
        self.blobs[0].diff[...] = total.sum()


class Counter(caffe.Layer):
    """A data layer: 0, 1, 2 ... and the phase."""

    def setup(self, bottom, top):
        self.next = 0

    def reshape(self, bottom, top):
        top[0].reshape(1, 2)

    def forward(self, bottom, top):
        top[0].data[0] = [self.next, self.phase]
        self.next += 1

    def backward(self, top, propagate_down, bottom):
        pass


class Growing(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(1, bottom[0].shape[1])

    def forward(self, bottom, top):
        kept = bottom[0].data[bottom[0].data.sum(axis=1) > 0]
        top[0].reshape(*kept.shape)
        top[0].data[...] = kept
'''

NET = """
force_backward: true
layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "p" type: "Python" bottom: "a" bottom: "b" top: "y"
        python_param { module: "user_layers" layer: "ScaledSum" param_str: "{\\"factor\\": 2}" } }
layer { name: "l" type: "Reduction" bottom: "y" top: "l" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "user_layers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("user_layers", None)


def test_values_and_gradients() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((3, 2)).astype(np.float32) for _ in range(2))
    layer = net(NET, phase="train", allow_python=True)
    np.testing.assert_allclose(layer.forward(a=a, b=b)["l"], ((6 * (a + b)) ** 2).sum(), rtol=1e-5)
    layer.backward()
    np.testing.assert_allclose(layer.blobs["a"].diff, 72 * (a + b), rtol=1e-5)
    (weight,) = layer.params["p"]
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad, [24 * ((a + b) ** 2).sum()], rtol=1e-5)
    assert "caffe" not in sys.modules


def test_its_parameter_follows_training() -> None:
    layer = net(NET, phase="train", allow_python=True)
    with torch.no_grad():
        layer.params["p"][0].fill_(0.5)
    ones = np.ones((3, 2), np.float32)
    np.testing.assert_allclose(layer.forward(a=ones, b=ones)["l"], 6 * 2.0**2)


def test_a_source_and_phases() -> None:
    text = """layer { name: "d" type: "Python" top: "d"
              python_param { module: "user_layers" layer: "Counter" } }"""
    source = net(text, phase="test", allow_python=True)
    values = [source.forward()["d"].tolist() for _ in range(3)]
    assert values == [[[0.0, 1.0]], [[1.0, 1.0]], [[2.0, 1.0]]]


def test_tops_may_change_their_shape() -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
    layer { name: "g" type: "Python" bottom: "x" top: "y"
            python_param { module: "user_layers" layer: "Growing" } }
    layer { name: "r" type: "ReLU" bottom: "y" top: "y" }
    """
    x = np.array([[1, 2, 3], [-1, -2, -3], [4, -1, 0], [0, 0, 0]], np.float32)
    assert net(text, allow_python=True).forward(x=x)["y"].shape == (2, 3)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"user_layers"', '"user_layer"', "cannot import module 'user_layer'"),
        ('"ScaledSum"', '"Scaledsum"', "module 'user_layers' has no class 'Scaledsum'"),
        ('\\"factor\\"', '\\"facto\\"', r"its setup failed at .*user_layers\.py:11: KeyError"),
        (
            'dim: 3 dim: 2 } } }\nlayer { name: "b"',
            'dim: 5 dim: 2 } } }\nlayer { name: "b"',
            "its reshape failed at .*: Exception: shapes differ",
        ),
    ],
)
def test_mistakes_are_sentences(old: str, new: str, sentence: str) -> None:
    assert old in NET
    with pytest.raises(LayerError, match=f"layer 'p' \\(Python\\): {sentence}"):
        net(NET.replace(old, new), allow_python=True)


def test_code_runs_only_where_it_was_allowed() -> None:
    with pytest.raises(LayerError, match=r"runs code from module 'user_layers'.*allow_python=True"):
        net(NET)
    assert "user_layers" not in sys.modules


def test_the_rest_of_pycaffe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data layers read and prepare images with it; a folder of Caffe's name hides nothing."""
    (tmp_path / "caffe" / "models").mkdir(parents=True)
    (tmp_path / "reading_layers.py").write_text(
        "import numpy as np\nimport caffe\nimport caffe.io\n"
        "from caffe.proto import caffe_pb2\n\n\n"
        "class Reader(caffe.Layer):\n"
        "    def setup(self, bottom, top):\n"
        "        self.prepare = caffe.io.Transformer({'d': (1, 3, 2, 4)})\n"
        "        self.prepare.set_transpose('d', (2, 0, 1))\n"
        "        self.prepare.set_raw_scale('d', 255)\n\n"
        "    def reshape(self, bottom, top):\n"
        "        top[0].reshape(1, 3, 2, 4)\n\n"
        "    def forward(self, bottom, top):\n"
        "        from caffe.io import datum_to_array\n\n"
        "        datum = caffe_pb2.Datum(channels=2, height=4, width=3, data=bytes(range(24)))\n"
        "        top[0].data[...] = self.prepare.preprocess('d', datum_to_array(datum) / 255.)\n"
    )
    monkeypatch.chdir(tmp_path)
    text = """layer { name: "d" type: "Python" top: "d"
              python_param { module: "reading_layers" layer: "Reader" } }"""
    found = net(text, phase="test", allow_python=True).forward()["d"]
    want = np.arange(24).reshape(2, 4, 3).transpose(2, 0, 1)
    np.testing.assert_allclose(found[0], want, rtol=1e-5)
    assert "caffe" not in sys.modules
