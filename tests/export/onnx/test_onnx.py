"""ONNX files of whole nets: names, sizes, metadata, preprocessing, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import ExportError
from caffecompat.export.model import CaffeModel
from caffecompat.export.onnx_graph import file as onnx_file
from caffecompat.export.targets.base import TargetOptions
from caffecompat.export.targets.onnx import Onnx
from tests.export.models import (
    assert_close,
    expected_outputs,
    layer_net,
    model_of,
    random_inputs,
    run_onnxruntime,
    runs,
    skip_average_with_ceil_mode,
)

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'
IMAGE = INPUT % "dim: 2 dim: 3 dim: 12 dim: 10"
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
"""
DENSE = """layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def written(model: CaffeModel, folder: Path, options: TargetOptions | None = None) -> Any:
    import onnx

    Onnx(options).write(model, folder / "net.onnx")
    loaded = onnx.load(folder / "net.onnx")
    onnx.checker.check_model(loaded, full_check=True)
    return loaded


def extents(value: Any) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_names_are_those_of_the_prototxt(tmp_path: Path) -> None:
    loaded = written(model_of(IMAGE + CONV + DENSE), tmp_path)
    graph = loaded.graph
    assert [value.name for value in graph.input] == ["data"]
    assert [value.name for value in graph.output] == ["prob"]
    named = {"conv.weight", "conv.bias", "fc.weight", "fc.bias"}
    assert named <= {tensor.name for tensor in graph.initializer}
    assert {"conv", "relu", "pool", "fc", "prob"} <= {node.name for node in graph.node}
    assert {value for node in graph.node for value in node.output} >= {"conv", "pool", "fc"}
    assert loaded.producer_name == "caffecompat"
    layers = json.loads({p.key: p.value for p in loaded.metadata_props}["layers"])
    assert layers["conv"] == "Convolution"


def test_a_net_with_dense_layers_takes_any_batch(tmp_path: Path) -> None:
    model = model_of(IMAGE + CONV + DENSE)
    loaded = written(model, tmp_path)
    assert extents(loaded.graph.input[0]) == ["batch", 3, 12, 10]
    assert extents(loaded.graph.output[0]) == ["batch", 5]
    net = model.net()
    for batch in (1, 5):
        inputs = random_inputs(net, shapes={"data": (batch, 3, 12, 10)})
        for found in runs(tmp_path / "net.onnx", inputs, ["prob"]):
            assert_close(found, expected_outputs(net, inputs))


@pytest.mark.parametrize(
    "more",
    [
        'layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" '
        "convolution_param { num_output: 2 kernel_size: 4 stride: 2 } }\n"
        'layer { name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop" '
        "crop_param { axis: 2 offset: 1 } }",
        'layer { name: "ave" type: "Pooling" bottom: "pool" top: "ave" '
        "pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }",
        'layer { name: "all" type: "Pooling" bottom: "pool" top: "all" '
        "pooling_param { pool: AVE global_pooling: true } }",
        'layer { name: "soft" type: "Softmax" bottom: "pool" top: "soft" }',
        'layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" '
        "convolution_param { num_output: 2 kernel_size: 4 stride: 2 } }\n"
        'layer { name: "crop" type: "CROP" bottom: "up" bottom: "data" top: "crop" }',
        'layer { name: "up" type: "Interp" bottom: "pool" top: "up" interp_param '
        "{ zoom_factor: 3 shrink_factor: 2 } }",
        'layer { name: "up" type: "Interp" bottom: "pool" bottom: "data" top: "up" }',
        'layer { name: "flip" type: "Flip" bottom: "pool" top: "y" flip_param '
        "{ flip_width: true flip_height: true } }",
        'layer { name: "up" type: "Upsample" bottom: "pool" top: "up" '
        "upsample_param { scale: 2 } }",
    ],
    ids=[
        *("crop", "average", "global", "softmax", "CROP", "zoom", "reference", "flip", "upsample"),
    ],
)
def test_a_fully_convolutional_net_takes_any_size(more: str, tmp_path: Path) -> None:
    model = model_of(IMAGE + CONV + more)
    loaded = written(model, tmp_path)
    assert extents(loaded.graph.input[0]) == ["batch", 3, "height", "width"]
    net = model.net()
    for shape in ((1, 3, 12, 10), (2, 3, 17, 23)):
        inputs = random_inputs(net, shapes={"data": shape})
        for found in runs(tmp_path / "net.onnx", inputs, net.outputs):
            assert_close(found, expected_outputs(net, inputs))


@pytest.mark.parametrize(
    "settings",
    [
        "pool: AVE kernel_size: 3 stride: 2",
        "pool: AVE kernel_size: 3 stride: 2 pad: 1",
        "pool: AVE kernel_size: 2 stride: 2 pad: 1",
        "pool: AVE kernel_h: 3 kernel_w: 2 stride_h: 3 stride_w: 2 pad_h: 2 pad_w: 0",
        "pool: AVE kernel_size: 2 stride: 3",
        "pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad: 1",
        "pool: AVE_EXC_PAD kernel_size: 3 stride: 1 pad: 1",
        "pool: AVE kernel_size: 3 pad_l: 1 pad_b: 2 stride: 2",
        "pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
        "pool: MAX kernel_size: 2 stride: 2 pad: 1",
        "pool: MAX kernel_size: 2 stride: 3",
        "pool: MAX kernel_size: 3 stride: 3 pad: 2",
    ],
)
def test_pooling_that_cuts_windows_off_takes_any_size(settings: str, tmp_path: Path) -> None:
    """Planes of odd and even extents: Caffe rounds up, drops windows, divides by what is left."""
    if "AVE" in settings:
        skip_average_with_ceil_mode()
    model = model_of(layer_net(f'type: "Pooling" pooling_param {{ {settings} }}', (2, 3, 8, 6)))
    loaded = written(model, tmp_path)
    assert extents(loaded.graph.input[0]) == ["batch", 3, "height", "width"]
    net = model.net()
    for shape in ((2, 3, 8, 6), (1, 3, 9, 8), (1, 3, 7, 10), (1, 3, 12, 11), (2, 3, 5, 5)):
        inputs = random_inputs(net, shapes={"a": shape})
        for found in runs(tmp_path / "net.onnx", inputs, ["y"]):
            assert_close(found, expected_outputs(net, inputs), 1e-6)


def test_a_plane_of_fixed_size_has_constant_divisors(tmp_path: Path) -> None:
    layer = 'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }'
    dense = (
        'layer { name: "fc" type: "InnerProduct" bottom: "y" top: "fc" '
        "inner_product_param { num_output: 2 } }"
    )
    loaded = written(model_of(layer_net(layer, (2, 3, 8, 6)) + dense), tmp_path)
    assert extents(loaded.graph.input[0]) == ["batch", 3, 8, 6]
    assert [n.op_type for n in loaded.graph.node][:2] == ["AveragePool", "Mul"]


def test_a_batch_that_the_net_fixes_stays(tmp_path: Path) -> None:
    layer = 'type: "Reshape" reshape_param { shape { dim: 2 dim: 12 } }'
    loaded = written(model_of(layer_net(layer, (2, 3, 4))), tmp_path)
    assert extents(loaded.graph.input[0]) == [2, 3, 4]


def test_an_input_changed_in_place_keeps_its_name(tmp_path: Path) -> None:
    layers = (
        'layer { name: "same" type: "Dropout" bottom: "data" top: "data" }\n'
        'layer { name: "add" type: "Power" bottom: "data" top: "data" power_param { shift: 1 } }\n'
        'layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }\n'
    )
    model = model_of(IMAGE + layers)
    loaded = written(model, tmp_path)
    assert [value.name for value in loaded.graph.input] == ["data"]
    inputs = random_inputs(model.net())
    found = run_onnxruntime(tmp_path / "net.onnx", inputs)
    assert_close(found, {"data'": np.maximum(inputs["data"] + 1, 0)})
    assert "data before relu" in [name for node in loaded.graph.node for name in node.output]


def test_an_output_that_copies_a_blob_has_its_own_name(tmp_path: Path) -> None:
    text = IMAGE + CONV + 'layer { name: "drop" type: "Dropout" bottom: "pool" top: "out" }'
    model = model_of(text)
    written(model, tmp_path)
    net = model.net()
    inputs = random_inputs(net)
    assert net.outputs == ["out"]
    for found in runs(tmp_path / "net.onnx", inputs, ["out"]):
        assert_close(found, expected_outputs(net, inputs))


def test_shared_parameters_are_written_once(tmp_path: Path) -> None:
    layers = "".join(
        f'layer {{ name: "fc{i}" type: "InnerProduct" bottom: "data" top: "fc{i}" '
        'param { name: "w" } param { name: "b" } inner_product_param { num_output: 4 } }'
        for i in (1, 2)
    )
    loaded = written(model_of(IMAGE + layers), tmp_path)
    assert [t.name for t in loaded.graph.initializer] == ["fc1.weight", "fc1.bias"]


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_preprocessing_becomes_part_of_the_graph(order: str, tmp_path: Path) -> None:
    steps = Preprocessing(channel_order=order, mean=(104.0, 117.0, 123.0), scale=0.02)
    model = replace(model_of(IMAGE + CONV + DENSE), preprocessing=steps)
    loaded = written(model, tmp_path, TargetOptions(fold_preprocessing=True))
    metadata = {p.key: p.value for p in loaded.metadata_props}
    assert Preprocessing.from_json(metadata["preprocessing"]) == steps
    assert "preprocessing_in_graph" in metadata
    image = np.random.default_rng(1).random((2, 3, 12, 10), np.float32)
    pixels = 255 * (image[:, ::-1] if order == "BGR" else image)
    blob = (pixels - np.reshape(steps.mean, (3, 1, 1))) * steps.scale
    wanted = expected_outputs(model.net(), {"data": blob.astype(np.float32)})
    for found in runs(tmp_path / "net.onnx", {"data": image}, ["prob"]):
        assert_close(found, wanted)


def test_unknown_preprocessing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--preprocessing"):
        written(model_of(IMAGE + CONV), tmp_path, TargetOptions(fold_preprocessing=True))
    gray = replace(model_of(IMAGE + CONV), preprocessing=Preprocessing("gray"))
    with pytest.raises(ExportError, match="1 channels"):
        written(gray, tmp_path, TargetOptions(fold_preprocessing=True))


def test_all_unknown_layers_are_named_before_anything_is_written(tmp_path: Path) -> None:
    text = (
        INPUT % "dim: 2 dim: 3"
        + (INPUT % "dim: 2").replace("data", "label")
        + 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "l" }'
        + 'layer { name: "a" type: "Accuracy" bottom: "data" bottom: "label" top: "a" }'
    )
    target = tmp_path / "net.onnx"
    target.write_bytes(b"old")
    with pytest.raises(ExportError, match=r"'l' \(SoftmaxWithLoss\), 'a' \(Accuracy\)"):
        Onnx().write(model_of(text), target)
    assert target.read_bytes() == b"old"


def test_the_reason_is_given_where_a_layer_can_never_be_written(tmp_path: Path) -> None:
    text = (
        IMAGE
        + CONV
        + (INPUT % "dim: 2").replace("data", "chosen")
        + 'layer { name: "f" type: "Filter" bottom: "conv" bottom: "chosen" top: "f" }'
    )
    sentence = r"'f' \(Filter, which selects any number of items of the batch\).* --output conv"
    with pytest.raises(ExportError, match=sentence):
        Onnx().write(model_of(text), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_above_the_limit_of_protobuf_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 1000)
    with pytest.raises(ExportError, match="ONNX files hold 1,000"):
        Onnx().write(model_of(IMAGE + CONV + DENSE), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_names_with_any_characters(tmp_path: Path) -> None:
    strange = "\\\"'{}\\n;%s/ü \\x00 import os"
    text = IMAGE + CONV.replace('"conv"', f'"{strange}"')
    model = model_of(text)
    loaded = written(model, tmp_path)
    name = next(b.name for b in model.net().layers if b.type == "Convolution")
    assert f"{name}.weight" in [tensor.name for tensor in loaded.graph.initializer]
    inputs = random_inputs(model.net())
    found = run_onnxruntime(tmp_path / "net.onnx", inputs)
    assert_close(found, expected_outputs(model.net(), inputs))
