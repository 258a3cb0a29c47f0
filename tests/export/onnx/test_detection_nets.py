"""ONNX of the R-CNN family: regions as inputs, and regions that the net proposes.

OpenCV 5.0 has no MaxRoiPool: it gets files of its own where regions are pooled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from caffecompat.errors import ExportError
from caffecompat.export.engines.base import EngineOptions
from caffecompat.export.engines.caffe_net import CaffeNet
from caffecompat.export.engines.onnxruntime import OnnxRuntime
from caffecompat.export.model import CaffeModel
from caffecompat.export.targets.base import TargetOptions
from caffecompat.export.targets.onnx import Onnx
from caffecompat.export.verify.inputs import draw_inputs
from caffecompat.export.verify.verification import compare, verify_conversion
from tests.export.models import (
    assert_close,
    expected_outputs,
    extents,
    image,
    layer_net,
    model_of,
    run_onnxruntime,
    runs,
)

DATA = 'input: "data" input_shape { dim: 1 dim: 3 dim: 48 dim: 64 }\n'
TRUNK = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 4 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
"""
HEAD = """layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.25 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 6 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
layer { name: "box" type: "InnerProduct" bottom: "pool" top: "box"
  inner_product_param { num_output: 8 } }
"""
FAST = DATA + 'input: "rois" input_shape { dim: 1 dim: 5 }\n' + TRUNK + HEAD

PYTHON = """python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
  param_str: "{'feat_stride': 4, 'scales': [1, 2], 'RPN_MIN_SIZE': 4, 'RPN_POST_NMS_TOP_N': 9}" }"""
PVANET = """proposal_param { feat_stride: 4 ratio: 0.5 ratio: 1 ratio: 2 scale: 1 scale: 2
  base_size: 16 min_size: 12 pre_nms_topn: 60 post_nms_topn: 9 nms_thresh: 0.6 }"""


def faster(kind: str, settings: str, tops: str = 'top: "rois"') -> str:
    return (
        DATA
        + 'input: "im_info" input_shape { dim: 1 dim: 3 }\n'
        + TRUNK
        + f"""
layer {{ name: "score" type: "Convolution" bottom: "conv" top: "score"
  convolution_param {{ num_output: 12 kernel_size: 1 }} }}
layer {{ name: "split" type: "Reshape" bottom: "score" top: "split"
  reshape_param {{ shape {{ dim: 0 dim: 2 dim: -1 dim: 0 }} }} }}
layer {{ name: "objects" type: "Softmax" bottom: "split" top: "objects" }}
layer {{ name: "joined" type: "Reshape" bottom: "objects" top: "joined"
  reshape_param {{ shape {{ dim: 0 dim: 12 dim: -1 dim: 0 }} }} }}
layer {{ name: "delta" type: "Convolution" bottom: "conv" top: "delta"
  convolution_param {{ num_output: 24 kernel_size: 1 }} }}
layer {{ name: "proposal" type: "{kind}" bottom: "joined" bottom: "delta" bottom: "im_info" {tops}
  {settings} }}
"""
        + HEAD
    )


def small(model: CaffeModel) -> CaffeModel:
    """Smaller deltas: boxes of an untrained net must not be as wide as numbers allow."""
    for blob in model.weights["delta"].blobs:
        blob *= 0.1
    return model


def test_regions_of_any_number_are_pooled(tmp_path: Path) -> None:
    import onnx

    model = model_of(FAST)
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    graph = onnx.load(path).graph
    assert [extents(value) for value in graph.input] == [
        ["batch", 3, "height", "width"],
        ["rois 0", 5],
    ]
    assert extents(graph.output[0])[1:] == [8]
    net = model.net()
    rng = np.random.default_rng(0)
    corners = rng.integers(-8, 64, (9, 4)).astype(np.float32) + 0.5  # halves are rounded away
    for height, width in ((48, 64), (70, 51)):
        regions = np.concatenate([np.zeros((9, 1), np.float32), corners], 1)
        inputs = {**image(rng, height, width), "rois": regions}
        wanted = expected_outputs(net, inputs)
        assert_close(run_onnxruntime(path, inputs), wanted)


@pytest.mark.parametrize(
    ("kind", "settings", "tops"),
    [
        ("Python", PYTHON, 'top: "rois"'),
        ("Python", PYTHON, 'top: "rois" top: "best"'),
        ("Proposal", PVANET, 'top: "rois"'),
        ("Proposal", PVANET, 'top: "rois" top: "best"'),
    ],
    ids=["python", "python-scores", "pvanet", "pvanet-scores"],
)
def test_proposed_regions_are_those_of_the_layer(
    kind: str, settings: str, tops: str, tmp_path: Path
) -> None:
    model = small(model_of(faster(kind, settings, tops)))
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    net = model.net()
    rng = np.random.default_rng(1)
    for height, width in ((48, 64), (60, 40)):
        facts = np.array([[height, width, 1.5]], np.float32)
        inputs = {**image(rng, height, width), "im_info": facts}
        wanted = expected_outputs(net, inputs)
        assert 2 < len(wanted["prob"]) <= 9
        assert_close(run_onnxruntime(path, inputs), wanted)
    for_opencv = tmp_path / "opencv.onnx"
    Onnx(TargetOptions(program="opencv5")).write(model, for_opencv)
    inputs = {**image(rng, 48, 64), "im_info": np.array([[48, 64, 1.5]], np.float32)}
    wanted = expected_outputs(net, inputs)
    assert 2 < len(wanted["prob"]) <= 9
    for found in runs(for_opencv, inputs, list(wanted)):
        assert_close(found, wanted)


@pytest.mark.parametrize(("height", "width"), [(7, 5), (9, 8), (1, 17), (20, 2)])
def test_opencv_pools_regions_from_maxima_of_windows(
    height: int, width: int, tmp_path: Path
) -> None:
    """Regions beyond the map, without size, and larger than it; bins are empty and overlap."""
    layer = 'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }'
    text = layer_net(layer, (2, 4, height, width), (6, 5))
    path = tmp_path / "net.onnx"
    Onnx(TargetOptions(program="opencv5")).write(model_of(text), path)
    regions = [
        [0, 0, 0, 9, 13],
        [1, 2.5, 3.5, 7.5, 8.5],
        [0, -6, -4, 30, 40],
        [1, 4, 4, 4, 4],
        [0, 8, 9, 3, 2],
        [1, 60, 60, 90, 90],
    ]
    maps = np.random.default_rng(4).normal(size=(2, 4, height, width)).astype(np.float32)
    inputs = {"a": maps, "b": np.array(regions, np.float32)}
    wanted = expected_outputs(model_of(text).net(), inputs)
    assert np.all(wanted["y"][5] == 0)
    for found in runs(path, inputs, ["y"]):
        assert np.array_equal(found["y"], wanted["y"])


def test_maps_of_fixed_size_have_constant_anchors(tmp_path: Path) -> None:
    import onnx

    dense = """layer { name: "all" type: "InnerProduct" bottom: "conv" top: "all"
      inner_product_param { num_output: 2 } }"""
    model = small(model_of(faster("Python", PYTHON) + dense))
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    graph = onnx.load(path).graph
    assert extents(graph.input[0]) == [1, 3, 48, 64]
    assert "Range" not in [node.op_type for node in graph.node]
    inputs = image(np.random.default_rng(2), 48, 64)
    inputs["im_info"] = np.array([[48, 64, 1]], np.float32)
    assert_close(run_onnxruntime(path, inputs), expected_outputs(model.net(), inputs))


@pytest.mark.parametrize("text", [FAST, faster("Python", PYTHON)], ids=["fast", "faster"])
def test_conversions_are_verified_with_sensible_inputs(text: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = model_of(text)
    if "delta" in model.weights:
        small(model)
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    lines = verify_conversion(model, path)
    assert any(line.startswith("prob: ") and not line.startswith("prob: 0") for line in lines)
    assert "verified" in lines[-1]
    if "delta" in model.weights:
        assert len(lines) == 2 + 5 + 2
        assert "values inside of the net, which differ by less" in lines[-2]


def test_rows_that_change_places_do_not_decide(tmp_path: Path) -> None:
    """Two boxes of equal scores may be in either order; what is before them decides."""
    pytest.importorskip("onnxruntime")
    model = small(model_of(faster("Python", PYTHON)))
    engine = CaffeNet.of(model)
    assert {"rois", "pool", "fc", "prob", "box"} <= set(engine.loose)
    assert not {"conv", "score", "delta"} & set(engine.loose)
    inputs = draw_inputs(engine, engine, 0)
    own = engine.values(inputs)
    moved = {**own, "fc": own["fc"][::-1], "box": own["box"][::-1]}
    found = compare(own, moved, loose=engine.loose)
    assert found.agrees
    assert {d.name for d in found.differences if "change places" in d.note} == {"fc", "box"}
    assert not compare(own, {**moved, "score": own["score"] + 1}, loose=engine.loose).agrees
    # All outputs are such values, so that those before decide.
    path = tmp_path / "net.onnx"
    Onnx().write(model, path)
    for blob in model.weights["score"].blobs:
        blob += 0.5
    with pytest.raises(ExportError, match="computes something else"):
        verify_conversion(model, path)


def test_an_onnx_file_alone_gets_regions_too(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    Onnx().write(model_of(FAST), path)
    engine = OnnxRuntime(path, EngineOptions())
    regions = draw_inputs(engine, engine, 0)["rois"]
    assert len(regions) > 1
    assert set(regions[:, 0]) <= {0, 1}
    assert engine.run(draw_inputs(engine, engine, 0))["prob"].shape == (len(regions), 6)


def test_what_has_no_form_is_refused(tmp_path: Path) -> None:
    text = FAST.replace("spatial_scale: 0.25", "spatial_scale: 0.25 pad_ratio: 0.25")
    with pytest.raises(ExportError, match="pad_ratio"):
        Onnx().write(model_of(text), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
