"""The arrays of blobs: they stay valid, and what is written counts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from caffecompat import pycaffe as caffe
from tests.pycaffe.definitions import CLASSIFIER, DEPLOY, built


def test_written_inputs_count(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    net.blobs["data"].data[...] = 1
    ones = net.forward()["prob"].copy()
    net.blobs["data"].data[0, 1] *= -5
    assert not np.allclose(net.forward()["prob"][0], ones[0])
    np.testing.assert_array_equal(net.blobs["prob"].data[1], ones[1])


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_view_shows_each_pass(tmp_path: Path, phase: int) -> None:
    net = built(tmp_path, CLASSIFIER, phase)
    views = {name: blob.data for name, blob in net.blobs.items()}
    rows = net.blobs["score"].data[1:3]
    previous: dict[str, np.ndarray] = {}
    for _ in range(3):
        net.forward()
        for name, view in views.items():
            np.testing.assert_array_equal(view, net.blobs[name].data)
        np.testing.assert_array_equal(rows, net.blobs["score"].data[1:3])
        assert not previous or not np.array_equal(previous["score"], views["score"])
        previous = {name: view.copy() for name, view in views.items()}
        net.backward()


def test_a_view_can_be_written_after_several_passes(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    view = net.blobs["pool"].data
    for _ in range(2):
        net.forward()
    view[...] = np.array([0, np.log(3)]).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(net.forward(start="prob")["prob"][:, 1, 0, 0], 0.75, rtol=1e-5)


def test_a_view_of_gradients_shows_each_pass(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER, caffe.TRAIN)
    of_blob, of_parameter = net.blobs["conv"].diff, net.params["conv"][0].diff
    for _ in range(2):
        net.forward()
        net.clear_param_diffs()
        net.backward()
        np.testing.assert_array_equal(of_blob, net.blobs["conv"].diff)
        np.testing.assert_array_equal(of_parameter, net.params["conv"][0].diff)
        assert of_blob.any()
        assert of_parameter.any()


def test_a_view_of_another_shape_keeps_its_values(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    view = net.forward()["prob"]
    values = view.copy()
    net.blobs["data"].reshape(3, 3, 4, 4)
    net.forward()
    np.testing.assert_array_equal(view, values)
    assert net.blobs["prob"].data.shape == (3, 2, 1, 1)


def test_splits_and_in_place_layers_share_no_gradients(tmp_path: Path) -> None:
    text = """force_backward: true
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "s" type: "Eltwise" bottom: "x" bottom: "x" top: "s" }
    layer { name: "f" type: "Flatten" bottom: "s" top: "f" }"""
    net = built(tmp_path, text)
    net.forward()
    net.backward(f=np.ones((2, 3)))
    assert list(net.blobs) == ["x", "x_x_0_split_0", "x_x_0_split_1", "s", "f"]
    assert (net.blobs["x"].diff == 2).all()
    net.blobs["x_x_0_split_0"].diff[...] = 7
    assert (net.blobs["x_x_0_split_1"].diff == 1).all()
    assert (net.blobs["s"].diff == 1).all()


def test_arrays_are_ordinary(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    data = net.forward()["prob"]
    assert isinstance(data, np.ndarray)
    assert data.dtype == np.float32
    for result in (data + 1, np.exp(data), data.sum(axis=1), np.asarray(data)):
        assert type(result) is np.ndarray
    assert isinstance(data.sum(), np.floating)
    assert repr(data) == repr(np.array(np.asarray(data)))
    copy = pickle.loads(pickle.dumps(data))
    assert type(copy) is np.ndarray
    np.testing.assert_array_equal(copy, data)


def test_constant_tops_are_filled_once(tmp_path: Path) -> None:
    """As in Caffe; scripts write labels into them."""
    net = built(tmp_path, CLASSIFIER.replace('"constant" }', '"constant" value: 2 }'))
    assert (net.blobs["label"].data == 2).all()
    net.blobs["label"].data[...] = [0, 1, 2, 3]
    data = net.forward(blobs=["data"])["data"].copy()
    assert not np.array_equal(net.forward(blobs=["data"])["data"], data)
    assert net.blobs["label"].data.tolist() == [0, 1, 2, 3]
