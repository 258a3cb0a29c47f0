"""Layers on blobs whose arrays a script holds: splits, layers in place, gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat import pycaffe as caffe
from tests.pycaffe.definitions import built

# ``a`` has two readers, so that a split stands behind it.
READ_TWICE = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { scale: 2 } }
layer { name: "b" type: "Power" bottom: "a" top: "b" power_param { shift: 1 } }
layer { name: "c" type: "Eltwise" bottom: "a" bottom: "b" top: "c" }"""


@pytest.mark.parametrize("viewed", [False, True])
def test_a_pass_behind_a_split_sees_one_that_ends_before_it(tmp_path: Path, viewed: bool) -> None:
    net = built(tmp_path, READ_TWICE)
    net.forward()
    kept = {name: blob.data for name, blob in net.blobs.items()} if viewed else {}
    net.blobs["x"].data[...] = 5
    net.forward(end="a")
    # As in Caffe the tops of a split are the memory of its bottom.
    assert (net.blobs["a_a_0_split_1"].data == 10).all()
    assert (net.forward(start="b")["c"] == 21).all()
    net.blobs["a"].data[...] = 1
    assert (net.forward(start="b")["c"] == 3).all()
    assert not viewed or (kept["c"] == 3).all()


def test_a_layer_that_changes_nothing_leaves_graphs_usable(tmp_path: Path) -> None:
    """Dropout in the phase TEST hands on the memory of an input that a script looks at."""
    text = """force_backward: true
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "d" type: "Dropout" bottom: "x" top: "x" phase: TEST }
    layer { name: "s" type: "Power" bottom: "x" top: "y" power_param { power: 2 } }"""
    net = built(tmp_path, text, caffe.TRAIN)
    view = net.blobs["x"].data
    view[...] = 3
    for _ in range(3):
        net.forward()
        net.backward(y=np.ones((2, 3)))
        assert (net.blobs["x"].diff == 6).all()
    assert (view == 3).all()


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_an_in_place_layer_on_a_viewed_blob_keeps_its_bottom(tmp_path: Path, phase: int) -> None:
    text = """force_backward: true
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "p" type: "PReLU" bottom: "x" top: "x" }"""
    net = built(tmp_path, text, phase)
    view = net.blobs["x"].data
    for _ in range(2):
        net.params["p"][0].diff[...] = 0
        view[...] = [[-8, 4]]
        net.forward()
        assert view.tolist() == [[-2, 4]]
        net.blobs["x"].diff[...] = [[3, 5]]
        net.backward()
        assert net.params["p"][0].diff.tolist() == [-24, 0]
        assert net.blobs["x"].diff.tolist() == [[0.75, 5]]


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_the_array_of_a_copy_leaves_the_bottom_of_an_in_place_layer(
    tmp_path: Path, phase: int
) -> None:
    """y holds what x holds; its array is brought up to date before the backward pass."""
    text = """force_backward: true
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "s" type: "Scale" bottom: "x" top: "x" scale_param { filler { value: 3 } } }
    layer { name: "y" type: "Power" bottom: "x" top: "y" }"""
    net = built(tmp_path, text, phase)
    net.blobs["x"].data[...] = [[2, 5]]
    kept = net.forward()["y"]
    net.forward()
    assert kept.tolist() == [[18, 45]]
    net.blobs["y"].diff[...] = [[1, 10]]
    net.backward()
    # The second pass multiplied the result of the first, 6 and 15, by 3.
    assert net.params["s"][0].diff.tolist() == [6, 150]
    assert net.blobs["x"].diff.tolist() == [[3, 30]]


def test_the_margins_of_a_hinge_loss_are_no_gradient(tmp_path: Path) -> None:
    """Caffe keeps them in the diff of the bottom; see docs/deviations.md."""
    text = (
        "force_backward: true layer { name: 'x' type: 'Input' top: 'x' top: 'l' input_param { "
        "shape { dim: 2 dim: 3 } shape { dim: 2 } } } layer { name: 'h' type: 'HingeLoss' "
        "bottom: 'x' bottom: 'l' top: 'loss' propagate_down: true propagate_down: false }"
    )
    net = built(tmp_path, text)
    net.blobs["x"].data[...] = [[0.5, -2, 3], [0.25, -0.5, 1]]
    net.blobs["l"].data[...] = [1, 2]
    net.forward()
    assert not net.blobs["x"].diff.any()
    net.blobs["loss"].diff[...] = 1
    net.backward()
    gradient = [[0.5, -0.5, 0.5], [0.5, 0.5, 0]]
    np.testing.assert_array_equal(net.blobs["x"].diff, gradient)
    net.forward()
    np.testing.assert_array_equal(net.blobs["x"].diff, gradient)


@pytest.mark.parametrize("kind", ["Reshape", "Flatten"])
def test_a_reshaped_blob_has_a_gradient_of_its_own(tmp_path: Path, kind: str) -> None:
    """In Caffe the two share it; see docs/deviations.md."""
    setting = "reshape_param { shape { dim: 2 dim: 15 } }" if kind == "Reshape" else ""
    text = (
        "force_backward: true layer { name: 'x' type: 'Input' top: 'x' input_param { shape { "
        "dim: 2 dim: 3 dim: 5 } } } layer { name: 's' type: 'Power' bottom: 'x' top: 'a' "
        f"power_param {{ scale: 2 }} }} layer {{ name: 'r' type: '{kind}' bottom: 'a' top: 'b' "
        f"{setting} }} layer {{ name: 't' type: 'Power' bottom: 'b' top: 'c' }}"
    )
    net = built(tmp_path, text)
    net.blobs["x"].data[...] = 1
    net.forward()
    net.blobs["c"].diff[...] = 3
    net.backward()
    net.blobs["b"].diff[...] = 9
    assert (net.blobs["a"].diff == 3).all()
    net.blobs["a"].diff[...] = 8
    assert (net.blobs["b"].diff == 9).all()
    net.backward(start="r")
    assert (net.blobs["x"].diff == 18).all()
    net.blobs["a"].diff[...] = 8
    net.backward(start="s")
    assert (net.blobs["x"].diff == 16).all()
    # As in Caffe, what the next layer reads counts, whether or not an array is held.
    held = net.blobs["b"].data
    held[...] = 4
    net.forward(start="t")
    assert (net.blobs["c"].data == 4).all()


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_prelu_in_place_takes_its_gradient_from_what_it_has_read(
    tmp_path: Path, phase: int
) -> None:
    """As Caffe, which keeps a copy: also after a script wrote into the blob, or ran it again."""
    text = (
        "force_backward: true layer { name: 'x' type: 'Input' top: 'x' input_param { shape { "
        "dim: 2 dim: 3 } } } layer { name: 's' type: 'Power' bottom: 'x' top: 'a' } "
        "layer { name: 'p' type: 'PReLU' bottom: 'a' top: 'a' prelu_param { filler { value: -0.5 } "
        "} } layer { name: 't' type: 'Power' bottom: 'a' top: 'c' }"
    )
    net = built(tmp_path, text, phase)
    net.blobs["x"].data[...] = [[1, -2, 3], [-4, 5, 6]]
    net.forward()
    net.blobs["c"].diff[...] = [[1, 2, 3], [4, 5, 6]]
    for _ in range(2):
        net.params["p"][0].diff[...] = 0
        net.backward()
        np.testing.assert_array_equal(net.blobs["x"].diff, [[1, -1, 3], [-2, 5, 6]])
        np.testing.assert_array_equal(net.params["p"][0].diff, [-16, -4, 0])
        net.blobs["a"].data[...] *= -1
    # The blob is -1 times what the first pass has left, twice: 1, 1, 3 and 2, 5, 6.
    net.forward(start="p")
    net.params["p"][0].diff[...] = 0
    net.backward()
    np.testing.assert_array_equal(net.blobs["x"].diff, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(net.params["p"][0].diff, [0, 0, 0])
