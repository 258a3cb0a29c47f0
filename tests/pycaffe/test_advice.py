"""What the messages of the pycaffe interface advise, followed to the letter, works."""

from __future__ import annotations

import copy
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import install_as_caffe
from caffecompat import pycaffe as caffe
from caffecompat.pycaffe import coord_map, draw, io
from caffecompat.pycaffe import layers as L
from caffecompat.pycaffe.classifier import Classifier
from caffecompat.pycaffe.detector import Detector
from caffecompat.pycaffe.proto import caffe_pb2
from tests.commands import refused
from tests.pycaffe.definitions import CLASSIFIER, DEPLOY, built
from tests.pycaffe.models import CLASSES, write_image, write_model

ROWS = np.random.default_rng(0).random((5, 3, 4, 4)).astype(np.float32)
MEMORY = """layer { name: "d" type: "MemoryData" top: "data" top: "label" memory_data_param {
  batch_size: 2 channels: 1 height: 2 width: 3 } }"""
FIVE_AXES = """layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 2 dim: 3 dim: 1 dim: 5 dim: 4 } } }"""


def test_more_than_four_axes(tmp_path: Path) -> None:
    blob = built(tmp_path, FIVE_AXES).blobs["data"]
    refused(lambda: blob.num, "exist for at most four axes, use shape")
    assert blob.shape[0] == 2


def test_copies(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    expected = net.forward(data=ROWS[:2])["prob"].copy()
    words = "keep arrays of it, numpy.array(blob.data), or build it again and give it the weights"
    refused(lambda: copy.copy(net), words, "of net.save(file)")
    refused(lambda: copy.deepcopy(net.blobs["prob"]), words)
    blob = net.blobs["prob"]
    kept = np.array(blob.data)
    weights = str(tmp_path / "net.caffemodel")
    net.save(weights)
    net.params["conv"][0].data[...] = 0
    net.forward()
    np.testing.assert_array_equal(kept, expected)
    again = built(tmp_path, DEPLOY, weights=weights)
    np.testing.assert_array_equal(again.forward(data=ROWS[:2])["prob"], expected)


def test_arrays_of_a_net_without_memory_data(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    words = "write into net.blobs[name].data instead"
    refused(lambda: net.set_input_arrays(ROWS[:2], ROWS[:2, 0, 0, 0]), words)
    expected = net.forward(data=ROWS[:2])["prob"].copy()
    net.blobs["data"].data[...] = 0
    net.blobs["data"].data[...] = ROWS[:2]
    np.testing.assert_array_equal(net.forward()["prob"], expected)


def test_arrays_of_memory_data(tmp_path: Path) -> None:
    net = built(tmp_path, MEMORY)
    refused(net.forward, "in pycaffe net.set_input_arrays(data, labels)")
    data, labels = np.arange(24.0).reshape(4, 1, 2, 3), np.arange(4.0, dtype=np.float32)
    refused(lambda: net.set_input_arrays(data, labels), "found float64; use .astype(np.float32)")
    data = data.astype(np.float32)[..., ::-1]
    words = "data must be C-contiguous; use np.ascontiguousarray(data)"
    refused(lambda: net.set_input_arrays(data, labels), words)
    data = np.ascontiguousarray(data)
    net.set_input_arrays(data, labels)
    np.testing.assert_array_equal(net.forward()["data"], data[:2])


def test_values_of_a_pass(tmp_path: Path) -> None:
    net = built(tmp_path, DEPLOY)
    words = "give them for all inputs of the net and nothing else: data"
    refused(lambda: net.forward(image=ROWS[:2]), "values are given for image;", words)
    refused(lambda: net.forward(data=ROWS[:2], prob=ROWS[:2]), words)
    assert net.forward(data=ROWS[:2])["prob"].shape == (2, 2, 1, 1)
    words = "use net.blobs['data'].reshape(...) or forward_all(...)"
    refused(lambda: net.forward(data=ROWS), "blob 'data' has a batch of 2", words)
    in_parts = net.forward_all(data=ROWS)["prob"]
    net.blobs["data"].reshape(*ROWS.shape)
    np.testing.assert_allclose(net.forward(data=ROWS)["prob"], in_parts, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "keywords", "sentence"),
    [
        ((), {}, "network_file must be the path of a file, found NoneType"),
        (("NET", 1), {"weights": 3}, "weights must be the path of a file, found int"),
        (("NET",), {}, "a phase is needed, none was given"),
        (("NET", 1, "deploy"), {}, "level must be an integer, found 'deploy'"),
        (("NET", 1, 0, None, None, "more"), {}, "6 arguments were given"),
        (("NET", 1), {"phase": 1}, "argument 'phase' is given twice"),
    ],
)
def test_arguments_of_a_net(
    arguments: tuple[Any, ...], keywords: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """Both forms that the messages write are called as they stand there."""
    network_file, weights, phase = str(tmp_path / "net.prototxt"), str(tmp_path / "w"), caffe.TEST
    built(tmp_path, DEPLOY).save(weights)
    given = [network_file if value == "NET" else value for value in arguments]
    refused(
        lambda: caffe.Net(*given, **keywords),
        sentence,
        "write Net(network_file, phase, level=0, stages=None, weights=None), with phase "
        "caffe.TRAIN or caffe.TEST; the old form Net(network_file, weights, phase) works too",
    )
    new = caffe.Net(network_file, phase, level=0, stages=None, weights=None)
    assert new.forward(data=ROWS[:2])["prob"].shape == (2, 2, 1, 1)
    old = caffe.Net(network_file, weights, phase)
    same = caffe.Net(network_file, phase, weights=weights)
    expected = old.forward(data=ROWS[:2])["prob"]
    np.testing.assert_array_equal(same.forward(data=ROWS[:2])["prob"], expected)


def test_classifier(tmp_path: Path) -> None:
    files = write_model(tmp_path)
    image = np.random.default_rng(1).random((9, 11, 3))
    refused(lambda: Classifier(*files).predict([]), "pass a list of images")
    assert Classifier(*files).predict([image]).shape == (1, CLASSES)
    small = Classifier(*files, image_dims=(7, 9))
    words = "smaller than the net's input of (8, 8); set it to that size or more"
    refused(lambda: small.predict([image]), words)
    for size in ((8, 8), (8, 10)):
        assert Classifier(*files, image_dims=size).predict([image]).shape == (1, CLASSES)


def test_detector(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    files, name = write_model(tmp_path), str(tmp_path / "a.png")
    write_image(Path(name))
    words = "context_pad is 4 on each side of an input of 8 x 8; give a number below half of that"
    refused(lambda: Detector(*files, context_pad=4), words)
    detector = Detector(*files, context_pad=3)
    words = "without it, pass windows of your own to detect_windows"
    refused(lambda: detector.detect_selective_search([name]), words)
    (found,) = detector.detect_windows([(name, [np.array([1, 2, 9, 8])])])
    assert found["prediction"].shape == (CLASSES,)


def test_cropping() -> None:
    data = L.Input(shape={"dim": [1, 1, 30, 30]})
    sides = L.Convolution(data, num_output=1, kernel_h=3, kernel_w=5)
    words = "give a list instead, such as kernel_size=[3, 5]"
    refused(lambda: coord_map.crop(sides, data), "has kernel_h, kernel_w; ", words)
    kernel = L.Convolution(data, num_output=1, kernel_size=[3, 5])
    assert 'type: "Crop"' in str(coord_map.crop(data, kernel).to_proto())


def test_drawing_without_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program dot on the PATH, as the package of a system installs one, is all it takes."""
    pytest.importorskip("pydot")
    net = caffe_pb2.NetParameter(name="one")
    net.layer.add(name="relu", type="ReLU", bottom=["data"], top=["relu"])
    monkeypatch.setenv("PATH", "")
    words = "dot is not on the PATH; install the package graphviz of your system"
    refused(lambda: draw.draw_net(net, "LR", ext="svg"), words)
    program = tmp_path / "dot"
    program.write_text(f"#!{sys.executable}\nprint('<svg/>')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert draw.draw_net(net, "LR", ext="svg").strip() == b"<svg/>"


def test_arrays_of_files(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    image = np.arange(20, dtype=np.uint8).reshape(4, 5)
    words = "give a gray image an axis with image[numpy.newaxis]"
    refused(lambda: io.array_to_datum(image), words)
    datum = io.array_to_datum(image[np.newaxis])
    np.testing.assert_array_equal(io.datum_to_array(datum)[0], image)
    blob = caffe_pb2.BlobProto()
    blob.data.extend(range(20))
    words = "20 values, which do not fill its shape (3,); set blob.shape.dim to the shape of the"
    blob.shape.dim.append(3)
    refused(lambda: io.blobproto_to_array(blob), words)
    blob.shape.dim[:] = image.shape
    np.testing.assert_array_equal(io.blobproto_to_array(blob), image)
    (tmp_path / "image").write_bytes(b"GIF")
    words = "it is no image, or damaged; the formats are JPEG, PNG, BMP, TIFF"
    refused(lambda: io.load_image(tmp_path / "image"), words)
    for suffix in (".jpeg", ".png", ".bmp", ".tiff"):
        (tmp_path / "image").write_bytes(bytes(cv2.imencode(suffix, image)[1]))
        assert io.load_image(tmp_path / "image").shape == (4, 5, 3)


def test_transformer() -> None:
    image = np.zeros((4, 5, 3))
    settings = io.Transformer({"data": (1, 3, 4, 5)})
    settings.set_mean("data", np.array([1.0, 2, 3]))
    words = "is subtracted; set transpose and the size of the input to match"
    refused(lambda: settings.preprocess("data", image), words)
    settings.set_transpose("data", (2, 0, 1))
    assert settings.preprocess("data", image).shape == (3, 4, 5)


def test_a_field_of_other_messages(tmp_path: Path) -> None:
    """The one that is passed there, or another of those in the list."""
    data = L.Input(shape={"dim": [1, 4, 6, 5]})
    words = "have: pass convolution_param=dict(kernel_size=...), or another of them"
    refused(lambda: L.Split(data, kernel_size=3).to_proto(), words, "pooling_param")
    for kind, given in (
        ("Convolution", {"convolution_param": {"kernel_size": 3, "num_output": 2}}),
        ("Pooling", {"pooling_param": {"kernel_size": 3}}),
    ):
        top = getattr(L, kind)(data, **given)
        net = built(tmp_path, str(top.to_proto()))
        assert next(iter(net.forward().values())).shape[2:] == (4, 3)


def test_another_caffe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call in a script; tests/pycaffe/running/test_running.py does the flag."""
    for name in [name for name in sys.modules if name.split(".")[0] == "caffe"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    (tmp_path / "caffe").mkdir()
    (tmp_path / "caffe" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    words = "to hide it in this process, call install_as_caffe(force=True), or add --force to"
    refused(install_as_caffe, f"a caffe is installed at {tmp_path}", words)
    install_as_caffe(force=True)
    assert importlib.import_module("caffe") is caffe
    assert built(tmp_path, CLASSIFIER).forward()["loss"].shape == ()
    for name in [name for name in sys.modules if name.split(".")[0] == "caffe"]:
        monkeypatch.delitem(sys.modules, name)


def test_crops_larger_than_the_images() -> None:
    image = np.random.default_rng(3).random((4, 9, 3)).astype(np.float32)
    words = "crops of 5 x 6 from images of 4 x 9; resize the images first"
    refused(lambda: io.oversample([image], (5, 6)), words)
    assert io.oversample([io.resize_image(image, (7, 9))], (5, 6)).shape == (10, 5, 6, 3)
