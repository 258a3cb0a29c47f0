"""ONNX of pooled regions and of detections: R-FCN's, Cascade R-CNN's, CTPN's and YOLO's layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from caffecompat.errors import ExportError
from caffecompat.export.engines.base import EngineOptions, open_engine
from caffecompat.export.targets.base import TargetOptions
from caffecompat.export.targets.onnx import Onnx
from tests.export.models import (
    Arrays,
    assert_close,
    expected_outputs,
    layer_net,
    model_of,
    random_inputs,
    require_opencv5,
    run_onnxruntime,
    run_opencv,
)

PSROI = (
    'type: "PSROIPooling" psroi_pooling_param { output_dim: 3 group_size: 2 spatial_scale: 0.5 }'
)
ALIGN = 'type: "ROIAlign" roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }'
PADDED = ALIGN.replace("spatial", "pad_ratio: 0.25 spatial")
# x1, y1, x2, y2: halves, regions beyond the map and without area.
CORNERS = np.array(
    [
        [0, 0, 9, 13],
        [2.5, 3.5, 7.5, 8.5],
        [-6, -4, 3, 5],
        [5, 7, 30, 40],
        [4, 4, 4, 4],
        [8, 9, 3, 2],
        [40, 40, 60, 60],
        [-2.5, 1, -0.5, 6],
    ],
    np.float32,
)

YOLO = """type: "YoloDetectionOutput" yolo_detection_output_param {
  num_classes: 3 num_box: 2 confidence_threshold: LEAST nms_threshold: 0.3
  biases: 1.2 biases: 1.0 biases: 0.8 biases: 1.9 }"""
YOLOV3 = """type: "Yolov3DetectionOutput" yolov3_detection_output_param {
  num_classes: 3 num_box: 2 confidence_threshold: LEAST nms_threshold: 0.3 mask_group_num: 2
  anchors_scale: 32 anchors_scale: 16 mask: 2 mask: 3 mask: 0 mask: 1
  biases: 10 biases: 13 biases: 33 biases: 23 biases: 30 biases: 61 biases: 62 biases: 45 }"""

CTPN = """name: "text"
layer { name: "score" type: "Input" top: "score"
  input_param { shape { dim: 1 dim: 20 dim: 4 dim: 5 } } }
layer { name: "delta" type: "Input" top: "delta"
  input_param { shape { dim: 1 dim: 20 dim: 4 dim: 5 } } }
layer { name: "info" type: "Input" top: "info" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "proposal" type: "Python" bottom: "score" bottom: "delta" bottom: "info"
  top: "rois" top: "scores"
  python_param { module: "layers.text_proposal_layer" layer: "ProposalLayer"
    param_str: "{'feat_stride': 16}" } }
"""


def check(text: str, inputs: Arrays, tmp_path: Path) -> Arrays:
    """What the layers compute, after it was compared with the programs' outputs."""
    model = model_of(text)
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    wanted = expected_outputs(model.net(), inputs)
    assert_close(run_onnxruntime(path, inputs), wanted)
    assert_close(run_opencv(path, inputs, list(wanted)), wanted)
    return wanted


@pytest.mark.parametrize("layer", [PSROI, ALIGN, PADDED], ids=["psroi", "align", "padded"])
@pytest.mark.parametrize(("height", "width"), [(7, 5), (9, 8)])
def test_pooled_regions(layer: str, height: int, width: int, tmp_path: Path) -> None:
    images = np.array([[i % 2] for i in range(len(CORNERS))], np.float32)
    maps = np.random.default_rng(4).normal(size=(2, 12, height, width)).astype(np.float32)
    inputs = {"a": maps, "b": np.concatenate([images, CORNERS], 1)}
    found = check(layer_net(layer, (2, 12, 7, 5), (1, 5)), inputs, tmp_path)["y"]
    assert np.any(found != 0)
    assert np.all(found[6] == 0)


def test_text_proposals(tmp_path: Path) -> None:
    net = model_of(CTPN).net()
    for height, width in ((4, 5), (6, 3)):
        shapes = dict.fromkeys(("score", "delta"), (1, 20, height, width))
        inputs = random_inputs(net, shapes=shapes)
        inputs["delta"] *= 0.5
        inputs["info"] = np.array([[16 * height, 16 * width, 1]], np.float32)
        rois = check(CTPN, inputs, tmp_path)["rois"]
        assert rois.shape == (10 * height * width, 4)


def yolo_maps(*shapes: tuple[int, ...]) -> Arrays:
    random = np.random.default_rng(6)
    return {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in zip("ab", shapes, strict=False)
    }


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [(YOLO, [(1, 16, 5, 5)]), (YOLO, [(2, 16, 5, 5), (2, 16, 3, 3)])],
    ids=["one-map", "two-maps"],
)
def test_detections_of_yolov2(layer: str, shapes: list[tuple[int, ...]], tmp_path: Path) -> None:
    text = layer_net(layer.replace("LEAST", "0.3"), *shapes)
    rows = check(text, yolo_maps(*shapes), tmp_path)["y"]
    assert 2 < rows.shape[2] < sum(2 * s[0] * s[2] * s[3] for s in shapes)


def test_detections_of_yolov3_for_maps_of_any_size(tmp_path: Path) -> None:
    text = layer_net(YOLOV3.replace("LEAST", "0.4"), (1, 16, 3, 4), (1, 16, 6, 8))
    for shapes in ([(1, 16, 3, 4), (1, 16, 6, 8)], [(1, 16, 2, 5), (1, 16, 4, 10)]):
        rows = check(text, yolo_maps(*shapes), tmp_path)["y"]
        assert rows.shape[2] > 2


def test_without_detections_there_is_a_row_for_each_image(tmp_path: Path) -> None:
    shapes = (2, 16, 3, 4), (2, 16, 6, 8)
    rows = check(layer_net(YOLOV3.replace("LEAST", "1"), *shapes), yolo_maps(*shapes), tmp_path)
    assert rows["y"][0, 0].tolist() == [[0.0] + [-1.0] * 6, [1.0] + [-1.0] * 6]


def test_opencv_shows_every_value_though_some_have_no_elements(tmp_path: Path) -> None:
    """The lists of boxes inside; OpenCV gives None for them."""
    require_opencv5()
    model = model_of(layer_net(YOLO.replace("LEAST", "1"), (1, 16, 3, 3)))
    path = tmp_path / "net.onnx"
    Onnx(TargetOptions(program="opencv5")).write(model, path)
    engine = open_engine(f"opencv:{path}", EngineOptions())
    values = engine.values(yolo_maps((1, 16, 3, 3)))
    assert values["y"].ravel().tolist() == [0.0] + [-1.0] * 6
    assert all(value.size for value in values.values())


def test_a_score_at_the_threshold_counts_in_yolov2(tmp_path: Path) -> None:
    """All scores are sigmoid(0) / 3, the threshold of one net; all boxes stay apart."""
    least = float(np.float32(0.5) * np.float32(1 / 3))
    text = layer_net(YOLO.replace("LEAST", f"{least:.9g}"), (1, 16, 4, 4))
    maps = np.zeros((1, 16, 4, 4), np.float32)
    maps[:, [2, 3, 10, 11]] = -3
    assert check(text, {"a": maps}, tmp_path)["y"].shape[2] >= 16


def test_a_threshold_of_zero_is_refused(tmp_path: Path) -> None:
    text = YOLO.replace("LEAST", "0.1").replace("nms_threshold: 0.3", "nms_threshold: 0")
    with pytest.raises(ExportError, match="nms_threshold is 0"):
        Onnx().write(model_of(layer_net(text, (1, 16, 4, 4))), tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
