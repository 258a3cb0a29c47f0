"""Forms of nets that MatConvNet has in another way, or not: norms, maps, images, names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import ExportError, FormatError
from caffecompat.export.matconvnet.layers import read_layers
from caffecompat.export.matconvnet.mat_file import read_mat
from caffecompat.export.matconvnet.meta import input_shape, preprocessing_of
from caffecompat.export.matconvnet.to_caffe import to_caffe
from caffecompat.export.model import CaffeModel
from tests.export.matconvnet.nets import BRANCHED, HOW, output, run, there_and_back, written

IMAGE = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 9 dim: 7 } } }
"""


def convolution(name: str, bottom: str, outputs: int, settings: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: 3 pad: 1 {settings} "
        'weight_filler { type: "msra" } } }\n'
    )


CONV = IMAGE + convolution("conv1", "data", 4)
NORM = 'layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "bn1" %s }\n'
SCALE = (
    'layer { name: "%s" type: "Scale" bottom: "%s" top: "%s" scale_param { bias_term: true %s } }\n'
)
BOTH = 'layer { name: "sum" type: "Eltwise" bottom: "%s" bottom: "%s" top: "sum" }\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            SCALE % ("s", "bn1", "s", "") + SCALE % ("s2", "s", "s2", ""),
            "layer 's2' (Scale): MatCo",
        ),
        (
            SCALE % ("s", "bn1", "s", "") + BOTH % ("s", "bn1"),
            "within a BatchNorm that nothing else",
        ),
        (SCALE % ("s", "bn1", "s", "axis: 1 num_axes: 3"), "within a BatchNorm that nothing else"),
        (SCALE % ("s", "bn1", "s", "num_axes: 0"), "within a BatchNorm that nothing else"),
        (
            'layer { name: "p" type: "Softmax" bottom: "bn1" top: "p" softmax_param { axis: 2 } }',
            "MatConvNet's softmax is along channels",
        ),
        (
            'layer { name: "f" type: "Flatten" bottom: "bn1" top: "f" }'
            'layer { name: "p" type: "Softmax" bottom: "f" top: "p" }',
            "it reads what Flatten makes of a map",
        ),
    ],
)
def test_layers_that_would_compute_something_else(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(CONV + NORM % "" + text, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 1
    assert sentence in capsys.readouterr().err


def test_statistics_of_the_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(CONV + NORM % "batch_norm_param { use_global_stats: false }", tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 1
    assert "it takes its statistics from the batch" in capsys.readouterr().err


FLAT = """
layer { name: "flat" type: "Flatten" bottom: "conv1" top: "flat" }
layer { name: "relu" type: "ReLU" bottom: "flat" top: "flat" }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "msra" } } }
"""
NAMES = (
    IMAGE
    + convolution("a-b", "data", 4)
    + convolution("a_b", "a-b", 4)
    + 'layer { name: "r" type: "ReLU" bottom: "a_b" top: "a_b" }'
    + convolution("a_bx", "a_b", 4)
    + BOTH % ("a_b", "a_bx")
)


@pytest.mark.parametrize("text", [CONV + FLAT, NAMES], ids=["flattened", "names"])
def test_nets_with(text: str, tmp_path: Path) -> None:
    net, back = there_and_back(text, tmp_path)
    np.testing.assert_allclose(output(back), output(net), rtol=1e-4, atol=1e-5)


POOLED = 'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { %s } }\n'
FIRST = {
    "convolution": convolution("c", "data", 4),
    "groups": convolution("c", "data", 6, "group: 3"),
    "pooling": POOLED % "kernel_size: 2 stride: 2" + convolution("c", "pool", 4),
    "twice": convolution("c", "data", 3) + BOTH % ("c", "data"),
}


@pytest.mark.parametrize(("order", "scale"), [("BGR", 1.0), ("BGR", 0.25), ("RGB", 0.25)])
@pytest.mark.parametrize("first", FIRST)
def test_what_reads_the_image_takes_r_g_b(
    first: str, order: str, scale: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R, G, B images of MatConvNet minus the mean give what the net gives for its own images."""
    net = written(IMAGE + FIRST[first], tmp_path)
    how = replace(HOW, channel_order=order, scale=scale)
    (tmp_path / "net.caffemodel.preprocessing.json").write_text(how.to_json())
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat", "--verify") == 0
    assert run(tmp_path / "net.mat", tmp_path / "back.caffemodel") == 0
    back = Net(tmp_path / "back.prototxt", weights=tmp_path / "back.caffemodel")
    read = Preprocessing.from_json((tmp_path / "back.caffemodel.preprocessing.json").read_text())
    pixels = np.random.default_rng(2).uniform(0, 255, (1, 3, 9, 7)).astype(np.float32)  # R, G, B

    def prepared(how: Preprocessing) -> np.ndarray:
        image = pixels[:, ::-1] if how.channel_order == "BGR" else pixels
        mean = np.reshape(how.mean, (1, 3, 1, 1))
        return ((image - mean) * how.scale).astype(np.float32)

    (wanted,) = net.forward(data=prepared(how)).values()
    (found,) = back.forward(data=prepared(read)).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


def joined_along(dim: int, folder: Path) -> CaffeModel:
    """:data:`BRANCHED`, whose concatenation is along another axis of MATLAB's arrays."""
    written(BRANCHED[: BRANCHED.index('layer { name: "mean"')], folder)
    path = folder / "net.mat"
    assert run(folder / "net.caffemodel", path) == 0
    variables = read_mat(path)
    layers = read_layers(variables, path)
    (both,) = (layer for layer in layers if layer.name == "both")
    both.settings["dim"] = dim
    return to_caffe(layers, variables, path)


@pytest.mark.parametrize(("dim", "axis"), [(1, 2), (2, 3), (3, 1)])
def test_concatenations_along_any_axis(dim: int, axis: int, tmp_path: Path) -> None:
    wanted = [1, 4, 7, 7]
    wanted[axis] *= 2
    assert list(joined_along(dim, tmp_path).net().blobs["both"].shape) == wanted


def test_a_concatenation_of_images(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="it joins along dim 4; 1 to 3 are read"):
        joined_along(4, tmp_path)


@pytest.mark.parametrize("field", ["imageSize", "averageImage", "border", "keepAspect"])
def test_cells_in_place_of_numbers_count_as_none(field: str) -> None:
    cell = [np.zeros((1, 2)), np.zeros((1, 3))]
    settings: dict[str, Any] = {"imageSize": [6.0, 6.0, 3.0], "averageImage": [1.0, 2.0, 3.0]}
    meta = {"normalization": [settings | {field: cell}]}
    found = preprocessing_of(meta, swapped=False)
    assert (found is None) == (field == "imageSize")
    assert found is None or found.resize == 6
    if field == "imageSize":
        with pytest.raises(FormatError, match="does not say the size of its images"):
            input_shape(meta, [], Path("x.mat"))
