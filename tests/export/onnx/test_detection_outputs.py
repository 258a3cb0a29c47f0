"""ONNX of SSD's detectors: DetectionOutput alone and behind its heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from caffecompat.errors import ExportError
from caffecompat.export.targets.onnx import Onnx
from tests.export.models import (
    Arrays,
    assert_close,
    expected_outputs,
    extents,
    image,
    model_of,
    run_onnxruntime,
    runs,
)

CLASSES, PRIORS = 4, 30


def detector(settings: str, locations: int = 1, batch: int = 1) -> str:
    """A DetectionOutput whose bottoms are inputs."""
    shapes = {
        "loc": (batch, 4 * PRIORS * locations),
        "conf": (batch, CLASSES * PRIORS),
        "prior": (1, 2, 4 * PRIORS),
    }
    inputs = "".join(
        f'input: "{name}" input_shape {{ {" ".join(f"dim: {extent}" for extent in shape)} }}\n'
        for name, shape in shapes.items()
    )
    return (
        inputs + 'layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" '
        f'bottom: "prior" top: "found" detection_output_param {{ num_classes: {CLASSES} '
        f"{settings} }} }}"
    )


def predictions(batch: int, locations: int, seed: int, least: float = 0.0) -> Arrays:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.6, (PRIORS, 2))
    priors = np.concatenate([corners, corners + rng.uniform(0.2, 0.4, (PRIORS, 2))], 1)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (PRIORS, 1))
    scores = rng.uniform(least, 1, (batch, PRIORS, CLASSES))
    return {
        "loc": rng.normal(size=(batch, 4 * PRIORS * locations)).astype(np.float32),
        "conf": scores.reshape(batch, -1).astype(np.float32),
        "prior": np.stack([priors, variances]).reshape(1, 2, -1).astype(np.float32),
    }


NMS = "nms_param { nms_threshold: 0.4 top_k: 12 }"


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
@pytest.mark.parametrize(
    ("settings", "locations"),
    [
        (f"{NMS} keep_top_k: 9 confidence_threshold: 0.3", 1),
        (f"{NMS} keep_top_k: 9 confidence_threshold: 0.3 share_location: false", CLASSES),
        ("nms_param { nms_threshold: 0.6 } keep_top_k: -1 background_label_id: 2", 1),
        (f"{NMS} keep_top_k: 200 variance_encoded_in_target: true confidence_threshold: 0.7", 1),
    ],
    ids=["shared", "each class", "all", "in target"],
)
def test_detections_are_those_of_the_layer(
    settings: str, locations: int, code: str, tmp_path: Path
) -> None:
    model = model_of(detector(f"{settings} code_type: {code}", locations, batch=2))
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    net = model.net()
    for seed in range(3):
        inputs = predictions(2, locations, seed)
        wanted = expected_outputs(net, inputs)
        assert wanted["found"].shape[2] > 2
        assert_close(run_onnxruntime(path, inputs), wanted, 1e-5)


def test_without_detections_there_is_a_row_for_each_image(tmp_path: Path) -> None:
    model = model_of(detector(f"{NMS} keep_top_k: 9 confidence_threshold: 2", batch=3))
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    found = run_onnxruntime(path, predictions(3, 1, 0))["found"]
    assert found.tolist() == [[[[float(image), *[-1.0] * 6] for image in range(3)]]]
    wanted = expected_outputs(model.net(), predictions(3, 1, 0))
    assert_close({"found": found}, wanted)


DETECTOR = """input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 16 }
layer { name: "loc" type: "Convolution" bottom: "data" top: "loc"
  convolution_param { num_output: 8 kernel_size: 3 stride: 4 } }
layer { name: "loc_last" type: "Permute" bottom: "loc" top: "loc_last"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_last" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "data" top: "conf"
  convolution_param { num_output: 6 kernel_size: 3 stride: 4 } }
layer { name: "conf_last" type: "Permute" bottom: "conf" top: "conf_last"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_rows" type: "Reshape" bottom: "conf_last" top: "conf_rows"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "prob" type: "Softmax" bottom: "conf_rows" top: "prob" softmax_param { axis: 2 } }
layer { name: "prob_flat" type: "Flatten" bottom: "prob" top: "prob_flat" }
layer { name: "prior" type: "PriorBox" bottom: "loc" bottom: "data" top: "prior"
  prior_box_param { min_size: 4 max_size: 8 variance: 0.1 } }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "prob_flat"
  bottom: "prior" top: "found" detection_output_param { num_classes: 3 keep_top_k: 20
  nms_param { nms_threshold: 0.45 top_k: 10 } confidence_threshold: 0.2 } }"""


@pytest.mark.parametrize("least", [0.2, 0.4, 0.999999], ids=["many", "some", "none"])
def test_detections_in_opencv(least: float, tmp_path: Path) -> None:
    """Its overlap of two boxes without area is 1, and it crashes on lists without elements."""
    text = DETECTOR.replace("confidence_threshold: 0.2", f"confidence_threshold: {least}")
    model = model_of(text)
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    rng = np.random.default_rng(1)
    for scale in (1, 0.01):
        inputs = image(rng, 12, 16)
        inputs["data"] = np.concatenate([inputs["data"] * scale, inputs["data"]])
        wanted = expected_outputs(model.net(), inputs)
        assert (wanted["found"].shape[2] > 2) == (least < 0.5)
        for found in runs(path, inputs, ["found"]):
            assert_close(found, wanted)


def test_a_single_detection_in_opencv(tmp_path: Path) -> None:
    """Of a list with one row it drops the axis."""
    model = model_of(DETECTOR)
    inputs = image(np.random.default_rng(1), 12, 16)
    scores = expected_outputs(model.net(), inputs)["found"][0, 0, :, 2]
    best, second = np.sort(scores)[::-1][:2]
    text = DETECTOR.replace(
        "confidence_threshold: 0.2", f"confidence_threshold: {best / 2 + second / 2}"
    )
    model = model_of(text)
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    wanted = expected_outputs(model.net(), inputs)
    assert wanted["found"].shape == (1, 1, 1, 7)
    assert wanted["found"][0, 0, 0, 1] > 0
    for found in runs(path, inputs, ["found"]):
        assert_close(found, wanted)


def test_a_detector_takes_any_batch_and_gives_any_rows(tmp_path: Path) -> None:
    import onnx

    model = model_of(DETECTOR)
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    graph = onnx.load(path).graph
    assert extents(graph.input[0]) == ["batch", 3, 12, 16]
    rows = extents(graph.output[0])
    assert (rows[:2], rows[3]) == ([1, 1], 7)
    assert isinstance(rows[2], str)
    net = model.net()
    for batch in (1, 3):
        data = np.random.default_rng(batch).normal(size=(batch, 3, 12, 16)).astype(np.float32)
        wanted = expected_outputs(net, {"data": data})
        assert_close(run_onnxruntime(path, {"data": data}), wanted)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("nms_param { nms_threshold: 0.7 eta: 0.9 }", "eta below 1"),
        ("nms_param { nms_threshold: 1.5 }", "nms_threshold is above 1"),
    ],
)
def test_detections_without_a_form(settings: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=sentence):
        Onnx().write(model_of(detector(settings)), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
