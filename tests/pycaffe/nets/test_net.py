"""Nets: constructor forms, structure, shapes, inputs."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import pycaffe as caffe
from caffecompat.pycaffe import mode
from tests.pycaffe.definitions import CLASSIFIER, DEPLOY, built
from tests.solver.log.caffe_log import Lines


def test_constructor_forms(tmp_path: Path, lines: Lines) -> None:
    net = built(tmp_path, DEPLOY)
    file, weights = str(tmp_path / "net.prototxt"), str(tmp_path / "weights")
    net.save(weights)
    forms = [
        caffe.Net(file, caffe.TEST, weights=weights),
        caffe.Net(file, caffe.TRAIN, 0, ["x"], weights),
        caffe.Net(network_file=file, phase=caffe.TEST, weights=weights, level=1, stages=["x"]),
    ]
    assert not lines.containing("old order")
    forms.append(caffe.Net(file, weights, caffe.TEST))
    assert lines.containing("is the old order of arguments")
    for other in forms:
        for name, blobs in net.params.items():
            for blob, same in zip(blobs, other.params[name], strict=True):
                np.testing.assert_array_equal(blob.data, same.data)


def test_nets_without_a_seed_differ_and_with_one_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mode, "_mode", replace(mode._mode))

    def weights() -> np.ndarray:
        return np.array(built(tmp_path, DEPLOY).params["conv"][0].data)

    assert not np.array_equal(weights(), weights())
    caffe.set_random_seed(7)
    first, second = weights(), weights()
    caffe.set_random_seed(7)
    np.testing.assert_array_equal(weights(), first)
    assert not np.array_equal(first, second)


def test_structure(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER, caffe.TRAIN)
    assert net.inputs == []
    assert net.outputs == ["loss"]
    assert list(net.blobs) == ["data", "label", "conv", "score", "loss"] == net._blob_names
    assert net.top_names == OrderedDict(
        data=["data", "label"], conv=["conv"], relu=["conv"], ip=["score"], loss=["loss"]
    )
    assert net.bottom_names["loss"] == ["score", "label"]
    assert list(net.layer_dict) == ["data", "conv", "relu", "ip", "loss"] == net._layer_names
    assert [layer.type for layer in net.layers] == [net.layer_dict[n].type for n in net.layer_dict]
    assert list(net.params) == ["conv", "ip"]
    assert [blob.shape for blob in net.layer_dict["ip"].blobs] == [(5, 60), (5,)]
    assert net.blob_loss_weights["loss"] == 1
    assert sum(net._blob_loss_weights) == 1
    assert (net._bottom_ids(4), net._top_ids(0), net._inputs, net._outputs) == (
        [3, 1],
        [0, 1],
        [],
        [4],
    )
    assert [blob.count for blob in net._blobs] == [240, 4, 240, 20, 1]


def test_levels_and_stages(tmp_path: Path) -> None:
    text = DEPLOY + (
        'layer { name: "a" type: "ReLU" bottom: "prob" top: "a" include { stage: "A" } }'
        'layer { name: "b" type: "ReLU" bottom: "prob" top: "b" include { min_level: 2 } }'
    )
    assert built(tmp_path, text).outputs == ["prob"]
    assert built(tmp_path, text, stages=["A", "B"]).outputs == ["a"]
    assert built(tmp_path, text, level=2, stages=["A"]).outputs == ["a", "b"]


def test_the_shapes_of_four_axes(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER)
    blob = net.blobs["label"]
    assert (blob.num, blob.channels, blob.height, blob.width) == (4, 1, 1, 1)
    net.blobs["data"].reshape(1, 2, 3, 4, 5)
    with pytest.raises(ValueError, match="blob 'data' is 1x2x3x4x5; num, channels"):
        _ = net.blobs["data"].height


def test_reshape(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    net.blobs["data"].reshape(5, 3, 7, 6)
    assert net.blobs["conv"].shape == (2, 2, 2, 2)
    net.reshape()
    assert net.blobs["conv"].shape == (5, 2, 5, 4) == net.blobs["conv"].diff.shape
    assert net.forward()["prob"].shape == (5, 2, 1, 1)
    net.blobs["data"].data[...] = 1
    net.blobs["data"].reshape(1, 3, 7, 6)
    assert (net.blobs["data"].data == 1).all()
    assert net.forward(data=np.zeros((1, 3, 7, 6)))["prob"].shape == (1, 2, 1, 1)


def test_more_samples_than_a_batch(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    x = np.random.default_rng(5).random((5, 3, 4, 4)).astype(np.float32)
    one_by_one = [net.forward(data=x[[i, i]])["prob"][0].copy() for i in range(5)]
    found = net.forward_all(data=x, blobs=["pool"])
    assert found["pool"].shape == (5, 2, 1, 1)
    np.testing.assert_allclose(found["prob"], one_by_one, rtol=1e-5)
    outs, diffs = net.forward_backward_all(data=x, prob=np.ones((5, 2, 1, 1)), diffs=["pool"])
    np.testing.assert_allclose(outs["prob"], one_by_one, rtol=1e-5)
    assert (diffs["data"].shape, diffs["pool"].shape) == (x.shape, (5, 2, 1, 1))
    last = list(net._batch({"data": x}))[-1]["data"]
    np.testing.assert_array_equal(last[0], x[4])
    assert not last[1].any()


def test_memory_data(tmp_path: Path) -> None:
    text = """layer { name: "d" type: "MemoryData" top: "data" top: "label" memory_data_param {
      batch_size: 2 channels: 1 height: 2 width: 3 } }"""
    net = built(tmp_path, text)
    data = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3)
    net.set_input_arrays(data, np.arange(4, dtype=np.float32))
    for rows in (slice(0, 2), slice(2, 4), slice(0, 2)):
        found = net.forward()
        np.testing.assert_array_equal(found["data"], data[rows])
    labels = np.zeros(4, np.float32)
    for wrong, sentence in (
        ((data.astype(np.float64), labels), "data must be float32, found float64"),
        ((data[..., ::-1], labels), "data must be C-contiguous"),
        ((data[:, 0], labels), "data must be rowsx1x2x3, found 4x2x3"),
        ((data[:3], labels[:3]), "3 rows of data were given, expected a multiple"),
        ((data, labels[:2]), "4 rows of data, but 2 labels"),
        ((data.tolist(), labels), "data must be a numpy array"),
    ):
        with pytest.raises(RuntimeError, match=sentence):
            net.set_input_arrays(*wrong)


def test_views_and_blobs_outlive_the_net(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER, caffe.TRAIN)
    blobs = [*net.blobs.values(), *(blob for blobs in net.params.values() for blob in blobs)]
    del net
    assert all(np.isfinite(blob.data.sum() + blob.diff.sum()) for blob in blobs)


def test_dictionaries_have_the_methods_of_python_2(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    names = list(net.blobs)
    blobs: Any = net.blobs
    assert (blobs.keys()[0], blobs.keys()[-1]) == (names[0], names[-1])
    assert [name for name, _ in blobs.iteritems()] == list(blobs.iterkeys()) == names
    assert list(blobs.itervalues()) == list(blobs.values()) == [net.blobs[n] for n in names]
    assert blobs.items()[1] == (names[1], net.blobs[names[1]])
    assert blobs.has_key(names[0])
    assert not blobs.has_key("x")
    assert blobs.keys() == set(names)
    assert list(reversed(blobs.keys())) == names[::-1]
    for found in (net.params, net.layer_dict, net.top_names, net.bottom_names):
        some: Any = found
        assert some.has_key(some.keys()[0])
    assert isinstance(net.blobs, OrderedDict)
    out: Any = net.forward()
    assert out.keys()[0] == net.outputs[0]
    assert out.values()[0] is out[net.outputs[0]]
    assert isinstance(out, dict)
    everything: Any = net.forward_all(data=np.zeros((3, *net.blobs["data"].shape[1:])))
    assert everything.keys()[0] == net.outputs[0]
    assert dict(**out).keys() == set(net.outputs)
    assert copy.copy(net.top_names) == pickle.loads(pickle.dumps(net.top_names)) == net.top_names


def test_dictionaries_and_lists_of_a_net_stay_the_same(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    for name in ("blobs", "params", "layer_dict", "inputs", "outputs"):
        assert getattr(net, name) is getattr(net, name)
    net.params["mine"] = net.params["conv"]
    assert "mine" in net.params
