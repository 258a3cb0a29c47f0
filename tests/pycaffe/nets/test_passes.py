"""Passes of nets: forward, backward, callbacks, gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net as TorchNet
from caffecompat import pycaffe as caffe
from tests.pycaffe.definitions import CLASSIFIER, DEPLOY, built


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


def test_what_stands_for_backward_from_layer(tmp_path: Path) -> None:
    """The Deep Visualization Toolbox's Caffe has it; the message says what to write."""
    net = built(tmp_path, DEPLOY.replace("input:", "force_backward: true input:", 1))
    diff = np.zeros_like(net.blobs["prob"].data)
    diff[0, 0] = 1
    with pytest.raises(
        AttributeError, match=r"write in its place: net\.blobs\[layer\]\.diff\["
    ) as e:
        net.backward_from_layer("prob", diff)
    assert "then net.backward(start=layer), which returns the gradients" in str(e.value)
    net.forward(data=np.random.default_rng(3).random(net.blobs["data"].data.shape))
    layer = "prob"
    net.blobs[layer].diff[...] = diff
    assert list(net.backward(start=layer)) == ["data"]
    assert np.abs(net.blobs["data"].diff[0]).max() > 0
    assert not net.blobs["data"].diff[1:].any()
    with pytest.raises(AttributeError, match="set the diffs below zero to 0 at each ReLU by hand"):
        net.deconv_from_layer("prob", diff)
