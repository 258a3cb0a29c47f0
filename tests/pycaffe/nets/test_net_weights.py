"""Weights of nets: files, sharing, surgery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat import pycaffe as caffe
from caffecompat.pycaffe.proto import caffe_pb2
from tests.pycaffe.definitions import CLASSIFIER, DEPLOY, built


def test_save_and_load(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER)
    net.save(tmp_path / "weights")
    net.save_hdf5(tmp_path / "weights_of_hdf5")
    for other, path in ((net, "weights"), (built(tmp_path, CLASSIFIER), "weights_of_hdf5")):
        expected = net.params["conv"][0].data.copy()
        view = other.params["conv"][0].data
        view[...] = 0
        other.load_hdf5(tmp_path / path) if "hdf5" in path else other.copy_from(tmp_path / path)
        np.testing.assert_array_equal(view, expected)


def test_gradients_of_a_caffemodel_are_read(tmp_path: Path) -> None:
    """As in Caffe, with ``snapshot_diff: true``; those of an HDF5 file are not."""
    net = built(tmp_path, CLASSIFIER, caffe.TRAIN)
    net.forward()
    net.backward()
    diffs = [blob.diff.copy() for blobs in net.params.values() for blob in blobs]
    net.torch_net.save(tmp_path / "w.caffemodel", diffs=True)
    net.torch_net.save(tmp_path / "w.caffemodel.h5", diffs=True)
    for name in ("w.caffemodel.h5", "w.caffemodel"):
        other = built(tmp_path, CLASSIFIER, caffe.TRAIN)
        other.copy_from(tmp_path / name)
        found = [blob.diff for blobs in other.params.values() for blob in blobs]
        for diff, expected in zip(found, diffs, strict=True):
            np.testing.assert_array_equal(diff, 0 if "h5" in name else expected)


def test_weights_of_no_layer_are_no_mistake(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    net.save(tmp_path / "weights")
    other = built(tmp_path, CLASSIFIER.replace('name: "conv"', 'name: "first"'))
    before = other.params["first"][0].data.copy()
    other.copy_from(tmp_path / "weights")
    np.testing.assert_array_equal(other.params["first"][0].data, before)


def test_shared_weights(tmp_path: Path) -> None:
    net, other = built(tmp_path, CLASSIFIER), built(tmp_path, CLASSIFIER)
    other.share_with(net)
    net.params["ip"][1].data[...] = 9
    assert (other.params["ip"][1].data == 9).all()
    for each in (net, other):
        each.forward()
    net.backward()
    assert net.params["ip"][1].diff.any()
    assert not other.params["ip"][1].diff.any()


def test_surgery_on_a_larger_net(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER)
    text = DEPLOY.split('layer { name: "scale"')[0]
    text = text.replace("dim: 2 dim: 3 dim: 4 dim: 4", "dim: 1 dim: 3 dim: 9 dim: 9")
    text = text.replace("num_output: 2 kernel_size: 3", "num_output: 5 kernel_h: 4 kernel_w: 5")
    conv = built(tmp_path, text)
    conv.params["conv"][0].data.flat = net.params["ip"][0].data.flat  # type: ignore[misc]
    conv.params["conv"][1].data[...] = net.params["ip"][1].data
    x = np.random.default_rng(6).random((1, 3, 9, 9)).astype(np.float32)
    found = conv.forward(data=x)["conv"]
    window = x[0, :, 2:6, 1:6].reshape(-1)
    expected = net.params["ip"][0].data @ window + net.params["ip"][1].data
    np.testing.assert_allclose(found[0, :, 2, 1], expected, rtol=1e-4)


@pytest.mark.parametrize("later", [6.0, None])
def test_a_layer_that_stands_twice_in_a_file(later: float | None, tmp_path: Path) -> None:
    """Caffe copies one after the other: the last value and the last gradient count."""
    message = caffe_pb2.NetParameter()
    for value, diff in ((1.0, 5.0), (2.0, later)):
        layer = message.layer.add(name="ip", type="InnerProduct")
        for blob in built(tmp_path, CLASSIFIER).params["ip"]:
            stored = layer.blobs.add()
            stored.shape.dim.extend(blob.shape)
            stored.data.extend([value] * blob.data.size)
            if diff is not None:
                stored.diff.extend([diff] * blob.data.size)
    (tmp_path / "twice.caffemodel").write_bytes(message.SerializeToString())
    net = built(tmp_path, CLASSIFIER)
    net.copy_from(tmp_path / "twice.caffemodel")
    for blob in net.params["ip"]:
        np.testing.assert_array_equal(blob.data, 2)
        np.testing.assert_array_equal(blob.diff, 5 if later is None else later)
