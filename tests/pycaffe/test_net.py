"""Nets: constructor forms, structure, passes, weights."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net as TorchNet
from caffecompat import pycaffe as caffe
from caffecompat.pycaffe import mode
from tests.pycaffe.definitions import CLASSIFIER, DEPLOY, built
from tests.solver.caffe_log import Lines


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


def test_forward_equals_the_torch_net(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    torch_net = TorchNet(tmp_path / "net.prototxt", seed=3)
    for name, blobs in torch_net.params.items():
        for blob, source in zip(net.params[name], blobs, strict=True):
            blob.data[...] = source.data
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    expected = torch_net.forward(data=x.astype(np.float32), blobs=["pool"])
    found = net.forward(blobs=["pool"], data=x)
    assert sorted(found) == ["pool", "prob"]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_forward_from_a_blob_that_was_written(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER, caffe.TRAIN)
    values = np.random.default_rng(1).random((4, 3, 4, 5))
    net.blobs["conv"].data[:] = values
    assert list(net.forward(start="ip", end="ip")) == ["score"]
    weight, bias = (blob.data for blob in net.params["ip"])
    expected = values.reshape(4, -1) @ weight.T + bias
    np.testing.assert_allclose(net.blobs["score"].data, expected, rtol=1e-4, atol=1e-5)


def test_an_in_place_layer_runs_on_what_its_blob_holds(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    net.blobs["conv"].data[...] = 2
    net.forward(start="scale", end="scale")
    net.forward(start="scale", end="scale")
    assert (net.blobs["conv"].data == 18).all()


def test_backward_without_forward(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER, caffe.TRAIN)
    diff = np.random.default_rng(2).random((4, 5))
    net.blobs["score"].diff[:] = diff
    assert list(net.backward(start="ip", end="ip")) == ["conv"]
    expected = (diff @ net.params["ip"][0].data).reshape(4, 3, 4, 5)
    np.testing.assert_allclose(net.blobs["conv"].diff, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_backward_uses_the_data_before_an_in_place_layer(tmp_path: Path, phase: int) -> None:
    net = built(tmp_path, DEPLOY, phase)
    net.blobs["data"].data[...] = np.random.default_rng(4).random((2, 3, 4, 4))
    net.forward(end="conv")
    before = np.array(net.blobs["conv"].data)
    net.forward()
    net.blobs["conv"].diff[...] = 1
    net.backward(start="scale", end="scale")
    np.testing.assert_allclose(
        net.params["scale"][0].diff, before.sum((0, 2, 3)), rtol=1e-4, atol=1e-5
    )


def test_backward_adds_parameter_gradients_and_replaces_those_of_blobs(tmp_path: Path) -> None:
    net = built(tmp_path, CLASSIFIER, caffe.TRAIN)
    net.forward()
    net.backward()
    weight, blob = net.params["ip"][0].diff, net.blobs["conv"].diff
    once, of_blob = weight.copy(), blob.copy()
    assert np.abs(once).max() > 0
    net.backward()
    np.testing.assert_allclose(weight, 2 * once, rtol=1e-5)
    np.testing.assert_array_equal(blob, of_blob)
    net.clear_param_diffs()
    assert not weight.any()


def test_a_layer_of_indices_learns(tmp_path: Path) -> None:
    text = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 } } }
layer { name: "e" type: "Embed" bottom: "x" top: "e" embed_param { input_dim: 3 num_output: 2 } }
layer { name: "sum" type: "Reduction" bottom: "e" top: "sum" loss_weight: 1 }
"""
    net = built(tmp_path, text, caffe.TRAIN)
    net.blobs["x"].data[...] = [2, 0, 2]
    net.forward()
    net.backward()
    weight, bias = net.params["e"]
    assert weight.diff.tolist() == [[1, 1], [0, 0], [2, 2]]
    assert bias.diff.tolist() == [3, 3]


@pytest.mark.parametrize(("entries", "expected"), [("", [3, 3]), ("param { lr_mult: 0 }", [0, 0])])
def test_statistics_without_entries_make_a_layer_run_backward(
    tmp_path: Path, entries: str, expected: list[float]
) -> None:
    """Caffe takes ``lr_mult`` as 1 here; nothing learns, but the bottom shows a gradient."""
    text = f"""
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 2 }} }} }}
layer {{ name: "b" type: "BatchNorm" bottom: "x" top: "b" {entries * 3}
        batch_norm_param {{ use_global_stats: true eps: 1 }} }}
layer {{ name: "sum" type: "Reduction" bottom: "b" top: "sum" loss_weight: 3 }}
"""
    net = built(tmp_path, text, caffe.TRAIN)
    net.forward()
    net.backward()
    assert net.blobs["x"].diff.ravel().tolist() == expected


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_an_in_place_layer_that_adds_axes(tmp_path: Path, phase: int) -> None:
    text = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 2 } } }
layer { name: "p" type: "Scale" bottom: "x" top: "p" scale_param { axis: 0 num_axes: 0 } }
layer { name: "m" type: "MVN" bottom: "p" top: "p" mvn_param { normalize_variance: false } }
layer { name: "sum" type: "Reduction" bottom: "p" top: "sum" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""
    net = built(tmp_path, text, phase)
    net.params["p"][0].data[...] = 2
    net.blobs["x"].data[...] = [[[0, 2], [3, 7]]]
    net.forward()
    net.backward()
    assert net.blobs["p"].data.shape == (1, 2, 2, 1)
    assert net.blobs["p"].data.ravel().tolist() == [-2, 2, -4, 4]
    assert net.params["p"][0].diff.item() == 40


def test_nothing_runs_backward_without_a_loss_or_force_backward(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY.replace("force_backward: true", ""))
    net.forward()
    net.backward(prob=np.ones((2, 2, 1, 1)))
    assert not net.blobs["pool"].diff.any()
    assert not net.params["conv"][0].diff.any()


def test_the_gradient_of_a_loss_is_its_weight(tmp_path: Path) -> None:
    text = CLASSIFIER.replace('top: "loss" }', 'top: "loss" loss_weight: 4 }')
    net = built(tmp_path, text, caffe.TRAIN)
    assert net.blobs["loss"].diff == 4
    net.forward()
    net.backward()
    first = net.blobs["score"].diff.copy()
    net.blobs["loss"].diff[...] = 1
    net.backward()
    np.testing.assert_allclose(net.blobs["score"].diff * 4, first, rtol=1e-5)
    assert net._forward(0, 4) == pytest.approx(4 * float(net.blobs["loss"].data))


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


def test_callbacks(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    calls: list[tuple[str, int]] = []
    for name in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, name)(lambda layer, name=name: calls.append((name, layer)))
    net.before_forward(lambda layer: net.blobs["conv"].data.fill(layer))
    net.forward(start="pool", end="prob")
    assert (net.blobs["pool"].data == 3).all()
    net.backward(start="prob", end="pool")
    assert calls == [
        ("before_forward", 3),
        ("after_forward", 3),
        ("before_forward", 4),
        ("after_forward", 4),
        ("before_backward", 4),
        ("after_backward", 4),
        ("before_backward", 3),
        ("after_backward", 3),
    ]


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


def test_batch_norm_gives_its_bottom_a_gradient(tmp_path: Path) -> None:
    """As in Caffe, where its parameters count as learned until it is set up."""
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 1 } } }
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }
    layer { name: "r" type: "Reduction" bottom: "y" top: "r" loss_weight: 1
      reduction_param { operation: SUMSQ coeff: 0.5 } }"""
    net = built(tmp_path, text, caffe.TRAIN)
    net.blobs["x"].data[:, 0] = [0, 1, 5]
    net.forward()
    net.backward()
    # Recorded from BVLC Caffe 1.0.
    np.testing.assert_allclose(net.blobs["y"].diff[:, 0], [-0.925820, -0.462910, 1.388730], 1e-5)
    np.testing.assert_allclose(net.blobs["x"].diff[:, 0], [0, 0, 0], atol=1e-5)
    frozen = text.replace('top: "y" }', 'top: "y" ' + 3 * "param { lr_mult: 0 } " + "}")
    net = built(tmp_path, frozen, caffe.TRAIN)
    net.blobs["x"].data[:, 0] = [0, 1, 5]
    net.forward()
    net.backward()
    assert not net.blobs["y"].diff.any()


def test_several_losses_without_a_top(tmp_path: Path) -> None:
    """All have the top ``(automatic)``: each adds its own value, and gives its own gradient."""
    text = """force_backward: true
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "y" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
    layer { name: "of x" type: "EuclideanLoss" bottom: "x" bottom: "t" loss_weight: 3 }
    layer { name: "of t" type: "EuclideanLoss" bottom: "t" bottom: "t" loss_weight: 5 }
    layer { name: "of y" type: "EuclideanLoss" bottom: "y" bottom: "t" }
    """
    net = built(tmp_path, text, phase=caffe.TRAIN)
    net.blobs["x"].data[...] = [[1, 2]]
    net.blobs["t"].data[...] = [[0, 1]]
    for _ in range(2):
        net.forward()
        # Half the squares of (1, 1) and of (2, 3).
        assert net._forward(0, len(net.layers) - 1) == 3 * 1 + 5 * 0 + 6.5
        assert net.blobs["(automatic)"].data == 6.5
        net.backward()
        # 3 (x - t) + 2 (y - t).
        np.testing.assert_array_equal(net.blobs["x"].diff, [[3 * 1 + 2 * 2, 3 * 1 + 2 * 3]])
