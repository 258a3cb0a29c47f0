"""The arrays of blobs: they stay valid, and what is written counts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat import pycaffe as caffe
from caffecompat.pycaffe.execution import blob_memory
from caffecompat.weights import load_weights
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


def test_views_stay_while_shapes_fit_into_the_memory(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    images = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    net.forward(data=images)
    data, prob, first = net.blobs["data"].data, net.blobs["prob"].data, net.blobs["prob"].data[0]
    kept = prob[1].copy()
    net.blobs["data"].reshape(1, 3, 4, 4)
    net.forward(data=images[1:])
    np.testing.assert_array_equal(first, net.blobs["prob"].data[0])
    np.testing.assert_array_equal(prob[0], net.blobs["prob"].data[0])
    np.testing.assert_array_equal(prob[1], kept)
    np.testing.assert_array_equal(data, images[[1, 1]])
    net.blobs["data"].reshape(2, 3, 4, 4)
    np.testing.assert_array_equal(net.blobs["data"].data, images[[1, 1]])
    data[1] = 0
    assert not net.blobs["data"].data[1].any()
    np.testing.assert_array_equal(net.forward()["prob"][0], kept)
    np.testing.assert_array_equal(prob, net.blobs["prob"].data)


def test_a_larger_shape_has_new_memory(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    data = net.blobs["data"].data
    data[...] = 2
    net.blobs["data"].reshape(5, 3, 4, 4)
    assert not net.blobs["data"].data.any()
    data[...] = 3
    assert not net.blobs["data"].data.any()
    net.forward()
    assert net.blobs["prob"].data.shape == (5, 2, 1, 1)


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
    made = (data + 1, np.exp(data), data.sum(axis=1), np.asarray(data), data.copy())
    for result in (*made, data.astype(int), np.concatenate([data, data])):
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


def test_what_is_written_between_passes_counts_once(tmp_path: Path) -> None:
    """A view that is held must not bring back old values."""
    net, other = (built(tmp_path, CLASSIFIER, caffe.TRAIN) for _ in range(2))
    other.share_with(net)
    held, shared = net.params["ip"][1].data, other.params["ip"][1].data
    held[...] = 3
    other.forward()
    assert (shared == 3).all()
    shared[0] = 5
    shared[1:] += 1
    net.forward()
    assert held.tolist() == [5, 4, 4, 4, 4] == net.params["ip"][1].data.tolist()
    diff = net.params["ip"][1].diff
    diff[...] = 1
    net.blobs["score"].diff[...] = 1
    net.backward(start="ip", end="ip")
    assert diff.tolist() == [5] * 5


def test_a_solver_and_held_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(CLASSIFIER)
    Path("solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" random_seed: 1 max_iter: 9 '
        "snapshot_after_train: false test_iter: 1 test_interval: 2"
    )
    solver, plain = (caffe.SGDSolver("solver.prototxt") for _ in range(2))
    weight, diff = solver.net.params["ip"][0].data, solver.net.params["ip"][0].diff
    of_test = solver.test_nets[0].params["ip"][0].data
    label = solver.net.blobs["label"].data
    label[...] = plain.net.blobs["label"].data[...] = [1, 2, 3, 4]
    for _ in range(2):
        solver.step(2)
        plain.step(2)
        np.testing.assert_allclose(weight, plain.net.params["ip"][0].data, rtol=1e-5)
        np.testing.assert_allclose(diff, plain.net.params["ip"][0].diff, rtol=1e-4, atol=1e-7)
        solver.test_nets[0].forward()
        np.testing.assert_array_equal(of_test, weight)


def test_callbacks_and_python_code_see_the_present_values(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    seen: list[np.ndarray] = []
    net.after_forward(lambda i: seen.append(net.blobs["conv"].data.copy()) if i in (1, 2) else None)
    net.before_forward(lambda i: net.blobs["pool"].data.fill(0) if i == 4 else None)
    net.blobs["data"].data[...] = 1
    found = net.forward()["prob"]
    np.testing.assert_allclose(seen[1], 3 * seen[0], rtol=1e-6)
    np.testing.assert_array_equal(found, np.full((2, 2, 1, 1), 0.5))


def test_a_resized_blob_has_what_was_written(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    net.blobs["data"].data[...] = 1
    net.blobs["data"].reshape(1, 3, 4, 4)
    assert (net.blobs["data"].data == 1).all()


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_the_top_of_a_parameter_layer_is_its_value(tmp_path: Path, phase: int) -> None:
    text = 'layer { name: "p" type: "Parameter" top: "t" parameter_param { shape { dim: 2 } } }'
    net = built(tmp_path, text, phase)
    net.params["p"][0].data[...] = [3, 4]
    net.forward()
    assert net.blobs["t"].data.tolist() == [3, 4]


def test_a_parameter_of_another_shape(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    images = np.random.default_rng(2).normal(size=(2, 3, 4, 4))
    before = net.forward(data=images)["prob"].copy()
    weight = net.params["conv"][0]
    weight.reshape(2, 27, 1)
    assert weight.data.shape == weight.diff.shape == (2, 27, 1)
    np.testing.assert_array_equal(net.forward()["prob"], before)
    net.backward(prob=np.arange(4).reshape(2, 2, 1, 1))
    assert weight.diff.any()
    net.save(tmp_path / "net.caffemodel")
    saved = load_weights(tmp_path / "net.caffemodel")
    assert [blob.shape for blob in saved["conv"].blobs] == [(2, 27, 1), (2,)]
    np.testing.assert_array_equal(saved["conv"].blobs[0], weight.data)
    weight.data[...] = 0
    np.testing.assert_array_equal(net.forward()["prob"], 0.5)
    words = "for another number, change the layer's definition and build the net again"
    with pytest.raises(ValueError, match=rf"of elements, its shape is \(2, 27, 1\); {words}"):
        weight.reshape(3, 27)
    wider = built(tmp_path, DEPLOY.replace("num_output: 2", "num_output: 3"))
    assert wider.params["conv"][0].data.reshape(3, 27).any()


def test_values_that_overlap_the_memory_of_a_view_are_shown() -> None:
    """A layer may hand on a part of its bottom, in other strides."""
    views = blob_memory.Views(torch.device("cpu"))
    memory = blob_memory.Memory("m", (2, 3), views, torch.device("cpu"))
    view = memory.array()
    view[...] = [[1, 2, 3], [4, 5, 6]]
    views.send()
    memory.put(memory.tensor().t())
    views.show()
    assert memory.array().tolist() == [[1, 4], [2, 5], [3, 6]]
    assert view.reshape(-1).tolist() == [1, 4, 2, 5, 3, 6]
