"""MatConvNet's SimpleNN and DagNN there and back: layers, layouts, refused settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.export.matconvnet.mat_file import read_mat
from caffecompat.export.source import read_source
from caffecompat.export.targets import matconvnet as target
from caffecompat.weights import load_weights
from tests.export.matconvnet.nets import (
    BRANCHED,
    CHAIN,
    HOW,
    REGIONS,
    SEGMENTATION,
    dag_of,
    output,
    run,
    there_and_back,
    written,
)

scipy_io: Any = pytest.importorskip("scipy.io")


@pytest.mark.parametrize(
    ("form", "function"),
    [("matconvnet", "vl_simplenn_tidy"), ("matconvnet-dagnn", "dagnn.DagNN.loadobj")],
)
def test_the_line_that_loads_a_file_quotes_its_name(
    form: str, function: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(CHAIN, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "it's.mat", "--to", form) == 0
    assert f"  net = {function}(load('{tmp_path}/it''s.mat'));\n" in capsys.readouterr().out


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
