"""MatConvNet's files: SimpleNN and DagNN there and back, layouts, refusals, hostile files."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import CaffeError
from caffecompat.export.matconvnet.mat_file import read_mat
from caffecompat.export.source import read_source
from caffecompat.export.targets import matconvnet as target
from caffecompat.weights import load_weights

scipy_io: Any = pytest.importorskip("scipy.io")

CHAIN = """
name: "chain"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 16 dim: 12 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 pad: 1 stride: 2
                            weight_filler { type: "msra" } bias_filler { type: "uniform" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1"
        lrn_param { local_size: 3 alpha: 0.3 beta: 0.75 k: 2 } }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
        pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 2
                            weight_filler { type: "msra" } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "msra" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
BRANCHED = """
name: "branched"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false
                            weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "bn1_scale" type: "Scale" bottom: "conv1" top: "conv1"
        scale_param { bias_term: true } }
layer { name: "a" type: "Convolution" bottom: "conv1" top: "a"
        convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "a" top: "sum" }
layer { name: "both" type: "Concat" bottom: "sum" bottom: "a" top: "both" }
layer { name: "mean" type: "Pooling" bottom: "both" top: "mean"
        pooling_param { pool: AVE global_pooling: true } }
"""
HOW = Preprocessing("BGR", (1.0, 2.0, 3.0), 1.0, 16, (16, 12), ("cat", "dog"))


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


def written(text: str, folder: Path) -> Net:
    """The net with random values, as net.prototxt and net.caffemodel."""
    (folder / "net.prototxt").write_text(text)
    net = Net(folder / "net.prototxt", seed=3)
    random = np.random.default_rng(5)
    for name in ("bn1", "bn1_scale"):
        for blob in net.params.get(name, ()):
            blob.data[...] = random.uniform(0.5, 2, blob.data.shape)
    net.save(folder / "net.caffemodel")
    (folder / "net.caffemodel.preprocessing.json").write_text(HOW.to_json())
    return net


def output(net: Net) -> np.ndarray:
    shape = net.blobs["data"].shape
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    (found,) = net.forward(data=x).values()
    return found.reshape(-1)


@pytest.mark.parametrize("form", ["matconvnet", "matconvnet-dagnn"])
def test_a_chain_is_exact_there_and_back(form: str, tmp_path: Path) -> None:
    net = written(CHAIN, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat", "--to", form) == 0
    back = tmp_path / "back.caffemodel"
    assert run(tmp_path / "net.mat", back, "--model", tmp_path / "net.prototxt") == 0
    original, found = load_weights(tmp_path / "net.caffemodel"), load_weights(back)
    for layer in original.values():
        there = found[layer.name].blobs if layer.blobs else []
        for one, other in zip(layer.blobs, there, strict=True):
            assert one.tobytes() == other.tobytes()
            assert one.shape == other.shape
    # The definition from the file alone gives the same numbers.
    alone = tmp_path / "alone.caffemodel"
    assert run(tmp_path / "net.mat", alone) == 0
    np.testing.assert_allclose(
        output(Net(tmp_path / "alone.prototxt", weights=alone)), output(net), rtol=1e-5
    )
    assert (
        Preprocessing.from_json((tmp_path / "alone.caffemodel.preprocessing.json").read_text())
        == HOW
    )


def test_a_training_net_is_deployed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = """
        layer { name: "data" type: "DummyData" top: "data" top: "label"
                dummy_data_param { shape { dim: 2 dim: 3 dim: 16 dim: 12 } shape { dim: 2 } } }"""
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }'
    body = CHAIN[CHAIN.index('layer { name: "conv1"') : CHAIN.index('layer { name: "prob"')]
    (tmp_path / "net.prototxt").write_text(data + body + loss)
    Net(tmp_path / "net.prototxt", phase="train").save(tmp_path / "net.caffemodel")
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 0
    assert "made a deploy net of it" in capsys.readouterr().out
    layers = scipy_io.loadmat(tmp_path / "net.mat", simplify_cells=True)["layers"]
    assert [layer["type"] for layer in layers][-2:] == ["dropout", "softmax"]


def test_branches_and_batch_normalisation(tmp_path: Path) -> None:
    net = written(BRANCHED, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 0
    assert "vars" in read_mat(tmp_path / "net.mat")
    assert run(tmp_path / "net.mat", tmp_path / "back.caffemodel") == 0
    back = Net(tmp_path / "back.prototxt", weights=tmp_path / "back.caffemodel")
    np.testing.assert_allclose(output(back), output(net), rtol=1e-4, atol=1e-6)


SEGMENTATION = """
name: "segmentation"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 9 dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1
                            weight_filler { type: "msra" } } }
layer { name: "up" type: "Deconvolution" bottom: "conv1" top: "up"
        convolution_param { num_output: 6 kernel_h: 4 kernel_w: 3 stride: 2 pad_h: 1 pad_w: 0
                            group: 2 weight_filler { type: "msra" }
                            bias_filler { type: "uniform" } } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "conv1" top: "crop"
        crop_param { axis: 2 offset: 1 offset: 3 } }
"""
REGIONS = """
name: "regions"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 20 dim: 24 } } }
layer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: 1 dim: 5 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "pool" type: "ROIPooling" bottom: "conv1" bottom: "rois" top: "pool"
        roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "msra" } } }
"""


def there_and_back(text: str, folder: Path) -> tuple[Net, Net]:
    net = written(text, folder)
    assert run(folder / "net.caffemodel", folder / "net.mat") == 0
    assert run(folder / "net.mat", folder / "back.caffemodel") == 0
    return net, Net(folder / "back.prototxt", weights=folder / "back.caffemodel")


def test_transposed_convolution_and_crop(tmp_path: Path) -> None:
    net, back = there_and_back(SEGMENTATION, tmp_path)
    np.testing.assert_allclose(output(back), output(net), rtol=1e-5, atol=1e-6)
    found = scipy_io.loadmat(tmp_path / "net.mat", simplify_cells=True)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["up"]["type"] == "dagnn.ConvTranspose"
    assert layers["up"]["block"]["crop"].tolist() == [1, 1, 0, 0]
    assert layers["up"]["block"]["numGroups"] == 2
    assert layers["crop"]["block"]["crop"].tolist() == [1, 3]
    # As vl_nnconvt is defined: each value of the input times a filter, moved by the upsampling.
    filters = {p["name"]: p["value"] for p in found["params"]}["upf"]
    assert filters.shape == (4, 3, 3, 4)
    net.forward(data=np.random.default_rng(1).standard_normal((1, 3, 9, 8)).astype(np.float32))
    x, bias = net.blobs["conv1"].data.numpy()[0], net.params["up"][1].detach().numpy()
    wanted = np.zeros((6, 2 * (5 - 1) + 4, 2 * (4 - 1) + 3))
    for d in range(4):
        for k in range(3):
            for row in range(5):
                for column in range(4):
                    place = wanted[d // 2 * 3 + k, 2 * row :, 2 * column :][:4, :3]
                    place += x[d, row, column] * filters[:, :, k, d]
    wanted = wanted[:, 1:-1] + bias[:, None, None]
    np.testing.assert_allclose(net.blobs["up"].data.numpy()[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_transposed_convolution_of_an_image_takes_r_g_b(tmp_path: Path) -> None:
    text = (
        SEGMENTATION[: SEGMENTATION.index('layer { name: "conv1"')]
        + """
layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
        convolution_param { num_output: 1 kernel_size: 2 stride: 2 bias_term: false
                            weight_filler { type: "msra" } } }
"""
    )
    net, back = there_and_back(text, tmp_path)
    np.testing.assert_array_equal(output(back), output(net))
    layer = scipy_io.loadmat(tmp_path / "net.mat", simplify_cells=True)["layers"]
    blob = net.params["up"][0].detach().numpy()
    # The last axis is that of the input's channels.
    np.testing.assert_array_equal(layer["weights"][0].reshape(2, 2, 3)[..., 0], blob[2, 0])


@pytest.mark.parametrize("text", [CHAIN, BRANCHED, SEGMENTATION, REGIONS])
@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_what_was_written_is_read_back_and_compared(
    text: str, order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = text.replace('"conv1"', '"conv-1"').replace('"data"', '"image"')
    text = text.replace("dim: 1 dim: 3", "dim: 4 dim: 3")  # the file does not tell the batch
    written(text, tmp_path)
    beside = tmp_path / "net.caffemodel.preprocessing.json"
    beside.write_text(replace(HOW, channel_order=order).to_json())
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 0
    assert "net.mat computes what the net does" in capsys.readouterr().out


def test_a_wrong_file_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(CHAIN, tmp_path)
    monkeypatch.setattr(target, "_matlab", lambda array: np.asarray(array)[::-1])
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 1
    assert "computes something else" in capsys.readouterr().err


def test_a_file_of_any_name_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(CHAIN, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.bin", "--to", "matconvnet-dagnn") == 0
    assert "net.bin computes what the net does" in capsys.readouterr().out


def test_regions_are_an_input(tmp_path: Path) -> None:
    net, back = there_and_back(REGIONS, tmp_path)
    assert back.inputs == ["data", "rois"]
    found = scipy_io.loadmat(tmp_path / "net.mat", simplify_cells=True)
    assert [v["name"] for v in found["vars"]][:2] == ["data", "conv1"]
    block = found["layers"][1]["block"]
    assert (block["transform"], block["subdivisions"].tolist()) == (0.5, [3, 2])
    x = np.random.default_rng(3).standard_normal((1, 3, 20, 24)).astype(np.float32)
    rois = np.array([[0, 1, 2, 15, 13], [0, 4.4, 0, 23, 19]], np.float32)
    (one,), (other,) = (n.forward(data=x, rois=rois).values() for n in (net, back))
    np.testing.assert_allclose(one.reshape(2, 5), other.reshape(2, 5), rtol=1e-5, atol=1e-6)


def dag_of(text: str, folder: Path, name: str, **changes: Any) -> Path:
    """net.mat of a net, one layer's block changed."""
    written(text, folder)
    assert run(folder / "net.caffemodel", folder / "net.mat") == 0
    content = scipy_io.loadmat(folder / "net.mat")
    for layer in content["layers"].flat:
        if layer["name"].item() == name:
            for key, value in changes.items():
                layer["block"][key][0, 0] = np.asarray(value)
    scipy_io.savemat(
        folder / "changed.mat", {k: v for k, v in content.items() if not k.startswith("__")}
    )
    return folder / "changed.mat"


@pytest.mark.parametrize(
    ("transform", "scale"),
    [([[0.5, 0.5]], 0.5), ([[0.25, 0, 0.75], [0, 0.25, 0.75]], 0.25), ([[0.5, 0.25]], None)],
)
def test_transforms_of_regions(
    transform: list[list[float]],
    scale: float | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = dag_of(REGIONS, tmp_path, "pool", transform=transform)
    if scale is None:
        assert run(path) == 1
        assert "no scaling of both axes" in capsys.readouterr().err
        return
    source = read_source(path, None)
    assert source.definition is not None
    pool = next(x for x in source.definition.message.layer if x.type == "ROIPooling")
    assert pool.roi_pooling_param.spatial_scale == scale


@pytest.mark.parametrize(
    ("text", "name", "changes", "sentence"),
    [
        (SEGMENTATION, "up", {"crop": [1.0, 0, 0, 0]}, "crops two sides differently"),
        (SEGMENTATION, "up", {"numGroups": 3.0}, "4 channels in 3 groups, but it reads 4"),
        (SEGMENTATION, "up", {"numGroups": 0.0}, "4 channels in 0 groups"),
        (SEGMENTATION, "up", {"crop": [9.0, 9, 9, 9]}, "the image is too small for it"),
        (SEGMENTATION, "crop", {"crop": [-1.0, 0]}, "not described as MatConvNet does"),
        (REGIONS, "pool", {"method": "avg"}, "only regions pooled by their maxima"),
        (REGIONS, "pool", {"flatten": True}, "only regions pooled by their maxima"),
    ],
)
def test_blocks_that_caffe_has_not(
    text: str,
    name: str,
    changes: dict[str, Any],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(dag_of(text, tmp_path, name, **changes)) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("group: 2", "group: 2 dilation: 2", "has no dilation"),
        ("axis: 2 offset: 1 offset: 3", "axis: 3 offset: 3", "not one of them"),
        ("axis: 2 offset: 1 offset: 3", "axis: 1 offset: 1", "crops height and width only"),
    ],
)
def test_settings_that_matconvnet_has_not(
    old: str, new: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(SEGMENTATION.replace(old, new), tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 1
    assert sentence in capsys.readouterr().err


def test_the_arrays_are_matlabs(tmp_path: Path) -> None:
    written(CHAIN, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 0
    found = scipy_io.loadmat(tmp_path / "net.mat", simplify_cells=True)
    layers = {layer["name"]: layer for layer in found["layers"]}
    original = load_weights(tmp_path / "net.caffemodel")
    filters = layers["conv1"]["weights"][0]
    # Height, width, channel and filter; R, G, B.
    assert filters.shape == (3, 2, 3, 4)
    assert filters[2, 1, 0, 3] == original["conv1"].blobs[0][3, 2, 2, 1]
    assert layers["conv1"]["pad"].tolist() == [1, 1, 1, 1]
    assert layers["conv2"]["weights"][0].shape == (3, 3, 2, 6)
    # Caffe's pooling rounds up: 8 by 7 becomes 4 by 3, which takes one more row in MATLAB.
    assert layers["pool1"]["pad"].tolist() == [0, 1, 0, 0]
    assert layers["norm1"]["param"].tolist() == pytest.approx([3, 2, 0.1, 0.75])
    fc = layers["fc"]["weights"][0]
    assert fc.shape == (4, 3, 6, 5)
    assert fc[1, 2, 4, 3] == original["fc"].blobs[0].reshape(5, 6, 4, 3)[3, 4, 1, 2]
    assert found["meta"]["normalization"]["averageImage"].tolist() == [3, 2, 1]


def old_file(path: Path, **changes: Any) -> Path:
    """A SimpleNN as before beta17: filters and biases, and no variable meta."""
    random = np.random.default_rng(0)
    conv = {
        "type": "conv",
        "name": "conv1",
        "filters": random.standard_normal((3, 3, 3, 2)).astype(np.float32),
        "biases": np.ones((1, 2), np.float32),
        "pad": 1.0,
        "stride": 1.0,
        **changes,
    }
    pool: dict[str, Any] = {
        "type": "pool",
        "name": "pool1",
        "method": "max",
        "pool": [2.0, 2.0],
        "stride": 2.0,
    }
    layers = np.empty((1, 3), object)
    layers[0, :] = [
        conv,
        {**pool, "pad": [0.0, 1.0, 0.0, 1.0]},
        {"type": "softmax", "name": "prob"},
    ]
    mean = np.full((6, 6, 3), 7.0, np.float32)
    size = {"imageSize": [6.0, 6.0, 3.0], "averageImage": mean, "keepAspect": 0.0}
    content = {"layers": layers, "normalization": {**size, "interpolation": "bicubic"}}
    scipy_io.savemat(path, content, do_compression=True)
    return path


def test_files_before_beta17(tmp_path: Path) -> None:
    source = read_source(old_file(tmp_path / "old.mat"), None)
    assert source.definition is not None
    message = source.definition.message
    assert [layer.type for layer in message.layer] == ["Input", "Convolution", "Pooling", "Softmax"]
    assert source.preprocessing == Preprocessing(
        "BGR", (7, 7, 7), 1, (6, 6), (6, 6), interpolation="bicubic"
    )
    # Padding at the end makes rounding down Caffe's rounding up.
    shapes = Net(source.definition, shapes_only=True).blobs["pool1"].shape
    assert tuple(shapes)[2:] == (3, 3)


def test_layers_that_caffe_has_not_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = np.empty((1, 3), object)
    layers[0, :] = [{"type": "pdist", "name": "p"}, {"type": "softmax"}, {"type": "custom"}]
    size = {"imageSize": [6.0, 6.0, 3.0]}
    scipy_io.savemat(tmp_path / "x.mat", {"layers": layers, "meta": {"normalization": size}})
    assert run(tmp_path / "x.mat") == 1
    error = capsys.readouterr().err
    assert "layer 'p' (pdist): Caffe has no such layer" in error
    assert "layer 'layer3' (custom): Caffe has no such layer" in error
    assert not (tmp_path / "x.caffemodel").exists()


def test_layers_that_matconvnet_has_not_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CHAIN.replace('type: "ReLU"', 'type: "TanH"').replace(
        "pool: MAX kernel_size: 3", "pool: AVE kernel_size: 3 pad: 1"
    )
    written(text, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 1
    error = capsys.readouterr().err
    assert "layer 'relu1' (TanH): MatConvNet has no such layer" in error
    assert "layer 'pool1' (Pooling): Caffe's average counts the padding" in error
    assert not (tmp_path / "net.mat").exists()
    text = CHAIN.replace('type: "Softmax"', 'type: "TanH"')
    written(text, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 1
    flags = re.findall(r"--output \w+", capsys.readouterr().err)
    assert flags == ["--output fc"]
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat", *flags[0].split()) == 0


def test_meta_that_is_no_struct_counts_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = np.empty((1, 1), object)
    layers[0, 0] = {"type": "softmax", "name": "prob"}
    meta = np.empty((1, 1), object)
    meta[0, 0] = "text"
    scipy_io.savemat(tmp_path / "x.mat", {"layers": layers, "meta": meta})
    assert run(tmp_path / "x.mat") == 1
    assert "does not say the size of its images" in capsys.readouterr().err


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "pad": ({"pad": [1.0, 0.0, 1.0, 1.0]}, "its padding differs between two sides"),
    "channels": ({"filters": np.ones((3, 3, 2, 2), np.float32)}, "take 2 channels, but it reads 3"),
    "huge kernel": ({"filters": np.ones((40, 40, 3, 1), np.float32)}, "too small for it"),
    "negative": ({"pad": -1.0}, "not described as MatConvNet does"),
    "text": ({"stride": "two"}, "not described as MatConvNet does"),
    "no filters": ({"filters": np.zeros((0, 0))}, "it has no filters of four axes"),
    "number": ({"type": 3.0}, "Caffe has no such layer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_make_no_net(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, expected = WRONG[name]
    assert run(old_file(tmp_path / "old.mat", **changes)) == 1
    assert expected in capsys.readouterr().err


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def element(kind: int, content: bytes, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    return struct.pack("<II", kind, length) + content + b"\0" * (-len(content) % 8)


def matrix(kind: int, dims: tuple[int, ...], *parts: bytes) -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(
        5, struct.pack(f"<{len(dims)}i", *dims)
    )
    return element(14, head + element(1, b"layers") + b"".join(parts))


def nested(depth: int) -> bytes:
    inner = matrix(6, (1, 1), element(9, b"\0" * 8))
    for _ in range(depth):
        inner = matrix(1, (1, 1), inner)
    return inner


HOSTILE = {
    "empty": (b"", "the file is empty|no variable 'layers'"),
    "claims more": (element(14, b"", 1 << 31), "claims 2,147,483,648 bytes"),
    "huge cell": (matrix(1, (1 << 30, 1 << 30)), "a cell or struct claims"),
    "huge array": (matrix(7, (1 << 30, 1 << 30), element(7, b"\0" * 8)), "has 2 values"),
    "negative shape": (matrix(7, (-1, 1), element(7, b"")), "no type or no shape"),
    "deep": (nested(40), "nested more than 32 deep"),
    "bomb": (
        element(15, zlib.compress(b"\0" * (80 << 20), 9)),
        "its unpacked content would take",
    ),
    "not packed": (element(15, b"abcdefgh"), "it cannot be unpacked"),
    "sparse": (matrix(5, (1, 1), element(5, b"\0" * 4)), "not numbers, text, a cell or a struct"),
    "function": (matrix(16, (1, 1), element(5, b"\0" * 4)), "not numbers, text, a cell"),
    "field length": (
        matrix(2, (1, 1), element(5, b"\0" * 4), element(1, b"abc")),
        "field names of a struct have no length",
    ),
    "no net": (matrix(7, (1, 1), element(7, b"\0" * 4)), "no variable 'layers' of structs"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gets_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, expected = HOSTILE[name]
    path = tmp_path / "x.mat"
    path.write_bytes(HEADER + content)
    assert run(path) == 1
    error = capsys.readouterr().err
    assert any(part in error for part in expected.split("|"))
    assert len(error.splitlines()) == 1


def test_version_7_3_without_its_hdf5_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    assert run(path) == 1
    assert "damaged" in capsys.readouterr().err


def test_damage_anywhere_is_one_sentence(tmp_path: Path) -> None:
    good = old_file(tmp_path / "good.mat").read_bytes()
    buffer = io.BytesIO()
    scipy_io.savemat(buffer, {"layers": {"name": "a", "type": "b"}, "n": np.ones((2, 3))})
    path = tmp_path / "x.mat"
    for content in (good, buffer.getvalue()):
        step = max(1, len(content) // 300)
        for at in range(0, len(content), step):
            for damaged in (content[:at], content[:at] + b"\xff" + content[at + 1 :]):
                path.write_bytes(damaged or b"MATLAB ")
                with contextlib.suppress(CaffeError):
                    read_source(path, None)
