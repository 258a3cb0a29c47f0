"""Each layer type that ONNX export writes: the file computes what this package computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from caffecompat.errors import ExportError
from caffecompat.export.onnx_graph.layer import writers
from caffecompat.export.targets.onnx import Onnx
from tests.export.layer_cases import (
    CASES,
    ENDLESS,
    FORK_CASES,
    IMAGE,
    conv,
    sentence,
    spatial_dropout,
)
from tests.export.models import (
    assert_close,
    expected_outputs,
    layer_net,
    model_of,
    random_inputs,
    run_onnxruntime,
    run_opencv,
    skip_average_with_ceil_mode,
)


@pytest.mark.parametrize("one", CASES + FORK_CASES, ids=sentence)
@pytest.mark.parametrize("program", ["onnxruntime", "opencv"])
def test_layer(one: tuple, program: str, tmp_path: Path) -> None:
    layer, shapes, tops, without_opencv = one
    if program == "opencv" and without_opencv:
        pytest.skip(without_opencv)
    if "AVE kernel_size: [2, 3, 2]" in layer:
        skip_average_with_ceil_mode()
    model = model_of(layer_net(layer, *shapes, tops=tops))
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    net = model.net()
    inputs = random_inputs(net)
    wanted = expected_outputs(net, inputs)
    if program == "onnxruntime":
        found = run_onnxruntime(path, inputs)
    else:
        found = run_opencv(path, inputs, net.outputs)
    assert_close(found, wanted)


@pytest.mark.parametrize("layer", ENDLESS)
def test_numbers_that_are_not_finite(layer: str, tmp_path: Path) -> None:
    model = model_of(layer_net(layer, IMAGE))
    Onnx().write(model, tmp_path / "net.onnx")
    inputs = random_inputs(model.net())
    found = run_onnxruntime(tmp_path / "net.onnx", inputs)
    np.testing.assert_equal(found, expected_outputs(model.net(), inputs))


def test_a_constant_top_of_values_that_are_not_finite(tmp_path: Path) -> None:
    model = model_of(layer_net('type: "Power" power_param { scale: 0 shift: 3 }', IMAGE))
    Onnx().write(model, tmp_path / "net.onnx")
    inputs = {name: np.full_like(x, np.inf) for name, x in random_inputs(model.net()).items()}
    (found,) = run_onnxruntime(tmp_path / "net.onnx", inputs).values()
    assert (found == 3).all()


def test_every_type_has_a_case() -> None:
    named = {one[0].split('"')[1] for one in CASES + FORK_CASES}
    redefined = {
        "xuzhenqi, mini-caffe LSTM",
        "NVCaffe BatchNorm",
        "ORN Convolution",
        "HD-CNN Convolution",
    }
    elsewhere = {
        "SpatialDropoutLayer",  # a class of Python layers
        "Embed",
        "BatchReindex",
        "Parameter",
        "CROP",
        "LabelSpecificAdd",
    }
    detection = {"ROIPooling", "Proposal", "ProposalLayer", "DetectionOutput", "TextProposalLayer"}
    detection |= {"PSROIPooling", "ROIAlign", "YoloDetectionOutput", "Yolov3DetectionOutput"}
    assert set(writers) - named <= redefined | elsewhere | detection


def test_a_layer_that_always_drops_is_refused(tmp_path: Path) -> None:
    """A deploy net of ENet whose param_str was left at TRAIN."""
    model = model_of(layer_net(spatial_dropout("TRAIN"), IMAGE))
    with pytest.raises(ExportError, match=r"phase TRAIN, .* drops channels; write TEST there"):
        Onnx().write(model, tmp_path / "net.onnx")


def test_values_go_back_to_the_places_of_a_pooling(tmp_path: Path) -> None:
    """SegNet's Upsample; the windows overlap, so that two values have one place."""
    inner = """layer { name: "pool" type: "Pooling" bottom: "a" top: "pool" top: "mask"
        pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
      layer { name: "twice" type: "Power" bottom: "pool" top: "twice" power_param { scale: 2 } }
      layer { name: "up" type: "Upsample" bottom: "twice" bottom: "mask" top: "up"
        upsample_param { upsample_h: 7 upsample_w: 5 } }
      layer { name: "end" type: "Sigmoid" bottom: "pool" top: "end" }"""
    text = layer_net('type: "Sigmoid"', IMAGE).replace(
        'layer { name: "one"', inner + ' layer { name: "one"'
    )
    model = model_of(text)
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    inputs = random_inputs(model.net())
    wanted = expected_outputs(model.net(), inputs)
    assert 0 < np.count_nonzero(wanted["up"]) < wanted["up"].size
    assert_close(run_onnxruntime(path, inputs), wanted)


@pytest.mark.parametrize("program", ["onnxruntime", "opencv"])
def test_a_kernel_of_one_value_behind_another_convolution_of_volumes(
    program: str, tmp_path: Path
) -> None:
    """OpenCV 5.0 stops at one of 1 x 1 behind a Reshape, and computes 1 x 1 x 1 wrongly."""
    inner = """layer { name: "in" type: "Convolution" bottom: "a" top: "in"
        convolution_param { num_output: 64 kernel_size: 3 } }"""
    one = layer_net(conv("num_output: 32 kernel_size: 1"), (1, 2, 6, 40, 40))
    model = model_of(
        one.replace('layer { name: "one" bottom: "a"', f'{inner} layer {{ name: "one" bottom: "in"')
    )
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    net = model.net()
    inputs = random_inputs(net)
    wanted = expected_outputs(net, inputs)
    assert wanted["y"].shape == (1, 32, 4, 38, 38)
    if program == "onnxruntime":
        found = run_onnxruntime(path, inputs)
    else:
        found = run_opencv(path, inputs, net.outputs)
    assert_close(found, wanted)


def test_the_margin_of_am_softmax_is_left_out(tmp_path: Path) -> None:
    text = 'type: "LabelSpecificAdd" label_specific_add_param { bias: -0.4 }'
    model = model_of(layer_net(text, (2, 5), (2,)))
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    inputs = {**random_inputs(model.net()), "b": np.array([1, 4], np.float32)}
    assert_close(run_onnxruntime(path, inputs), expected_outputs(model.net(), inputs))


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_windows_of_clips_without_elements(method: str, tmp_path: Path) -> None:
    """The stride is greater than the kernel; Python source has no such windows."""
    windows = "kernel_size: 1 kernel_depth: 3 stride: 2 temporal_stride: 2"
    layer = f'type: "Pooling3D" pooling3d_param {{ pool: {method} {windows} }}'
    model = model_of(layer_net(layer, (2, 3, 4, 6, 5)))
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    inputs = random_inputs(model.net())
    assert_close(run_onnxruntime(path, inputs), expected_outputs(model.net(), inputs))
