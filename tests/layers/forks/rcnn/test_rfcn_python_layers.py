"""The Python layers that R-FCN shares by name with py-faster-rcnn, in nets of R-FCN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffecompat.errors import LayerError
from tests.net.nets import net

REGIONS = [[0, 0, 0, 9, 9], [0, 20, 20, 39, 39], [0, 1, 1, 10, 10], [0, 50, 5, 60, 30]]
OBJECTS = [[0, 0, 9, 9, 7], [22, 22, 41, 41, 3]]

TARGETS = """
layer { name: "regions" type: "Input" top: "regions" input_param { shape { dim: 4 dim: 5 } } }
layer { name: "objects" type: "Input" top: "objects" input_param { shape { dim: 2 dim: 5 } } }
layer { name: "roi-data" type: "Python" bottom: "regions" bottom: "objects"
  top: "rois" top: "labels" top: "targets" top: "inside" top: "outside"
  python_param { module: "rpn.proposal_target_layer" layer: "ProposalTargetLayer"
                 param_str: "'num_classes': CLASSES" } }
"""
# The end of R-FCN's nets with online mining of hard examples.
MINING = """
layer { name: "cls" type: "InnerProduct" bottom: "rois" top: "cls"
  inner_product_param { num_output: 8 weight_filler { type: "constant" value: 0.01 } } }
layer { name: "box" type: "InnerProduct" bottom: "rois" top: "flat"
  inner_product_param { num_output: 8 weight_filler { type: "constant" value: 0.01 } } }
layer { name: "box4" type: "Reshape" bottom: "flat" top: "box"
  reshape_param { shape { dim: 0 dim: 8 dim: 1 dim: 1 } } }
layer { name: "loss_of_class" type: "SoftmaxWithLossOHEM" bottom: "cls" bottom: "labels"
  top: "a" top: "b" top: "loss_of_class" loss_weight: 0 loss_weight: 0 loss_weight: 0 }
layer { name: "loss_of_box" type: "SmoothL1LossOHEM" bottom: "box" bottom: "targets"
  bottom: "inside" top: "c" top: "loss_of_box" loss_weight: 0 loss_weight: 0 }
layer { name: "each" type: "Eltwise" bottom: "loss_of_class" bottom: "loss_of_box" top: "each" }
layer { name: "hard" type: "BoxAnnotatorOHEM" bottom: "rois" bottom: "each" bottom: "labels"
  bottom: "inside" top: "hard_labels" top: "hard_weights"
  box_annotator_ohem_param { roi_per_img: 2 ignore_label: -1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "cls" bottom: "hard_labels" top: "loss"
  loss_param { ignore_label: -1 } }
"""


def blobs(text: str, classes: int = 2) -> Any:
    built = net(text.replace("CLASSES", str(classes)), phase="train")
    built.forward(regions=np.array(REGIONS, np.float32), objects=np.array(OBJECTS, np.float32))
    return {name: np.array(built.blobs[name].data.tolist()) for name in built.blobs}


def test_all_regions_with_four_axes_and_targets_of_one_kind() -> None:
    found = blobs(TARGETS + MINING)
    # Four regions and the two objects themselves; nothing is drawn.
    shapes = {"rois": 5, "labels": 1, "targets": 8, "inside": 8, "outside": 8}
    for name, wide in shapes.items():
        assert found[name].shape == (6, wide, 1, 1), name
    for name in ("loss_of_class", "loss_of_box", "each"):
        assert found[name].shape == (6, 1, 1, 1), name
    rows = found["rois"].reshape(6, 5)[:, 1:].tolist()
    labels = dict(zip(map(tuple, rows), found["labels"].ravel(), strict=True))
    expected = {(0, 0, 9, 9): 7, (20, 20, 39, 39): 3, (1, 1, 10, 10): 7, (50, 5, 60, 30): 0}
    assert labels == expected | {(22, 22, 41, 41): 3}
    inside = found["inside"].reshape(6, 2, 4)
    is_object = found["labels"].ravel() > 0
    np.testing.assert_array_equal(inside[:, 0], 0)
    np.testing.assert_array_equal(inside[:, 1], is_object[:, None] * np.ones(4))
    moved = rows.index([20, 20, 39, 39])
    # (22 - 20) / 20 by the deviation 0.1; the sizes are the same.
    np.testing.assert_allclose(found["targets"].reshape(6, 2, 4)[moved, 1], [1, 1, 0, 0], atol=1e-5)
    kept = found["hard_labels"].ravel()
    assert (kept != -1).sum() == 2


def test_other_nets_have_py_faster_rcnn_s_shapes() -> None:
    found = blobs(TARGETS, 8)
    assert found["rois"].shape == (5, 5) or found["rois"].shape[1:] == (5,)
    assert found["labels"].ndim == 1
    assert found["targets"].shape[1:] == (32,)
    with pytest.raises(LayerError, match="an object has class 7, but num_classes is 2"):
        blobs(TARGETS)


def test_classes_of_their_own() -> None:
    found = blobs(
        TARGETS
        + MINING.replace("num_output: 8", "num_output: 32", 2).replace(
            "dim: 0 dim: 8", "dim: 0 dim: 32"
        ),
        8,
    )
    inside = found["inside"].reshape(6, 8, 4)
    labels = found["labels"].ravel().astype(int)
    for row, label in zip(inside, labels, strict=True):
        assert row[label].all() == (label > 0)
        assert row.sum() == 4 * (label > 0)
    with pytest.raises(LayerError, match="num_classes is 8; with AGNOSTIC it must be 2"):
        blobs((TARGETS + MINING).replace("CLASSES", r"8\n'AGNOSTIC': True"))


DATA = """
layer { name: "data" type: "Python" TOPS
  python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer"
                 param_str: "'num_classes': 21" } }
layer { name: "s" type: "Silence" BOTTOMS }
"""


def shapes(tops: str, more: str = "") -> list[tuple[int, ...]]:
    words = tops.split()
    text = DATA.replace("TOPS", " ".join(f'top: "{one}"' for one in words))
    text = text.replace("BOTTOMS", " ".join(f'bottom: "{one}"' for one in words)) + more
    built = net(text, phase="train", shapes_only=True)
    return [tuple(built.shape_of(top)) for top in built.layers[0].tops]


def test_tops_of_the_data_layer() -> None:
    image = (1, 3, 600, 1000)
    assert shapes("data im_info gt_boxes") == [image, (1, 3), (1, 5)]
    assert shapes("data rois labels") == [image, (1, 5), (1,)]
    regions = "data rois labels bbox_targets bbox_inside_weights"
    assert shapes(regions) == [image, (1, 5), (1,), (1, 84), (1, 84)]
    pooled = """
      layer { name: "maps" type: "Input" top: "maps"
        input_param { shape { dim: 1 dim: 2 dim: 5 dim: 4 } } }
      layer { name: "p" type: "PSROIPooling" bottom: "maps" bottom: "rois" top: "p"
        psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 1 } }"""
    of_rfcn = [image, (1, 5, 1, 1), (1, 1, 1, 1), (1, 8, 1, 1), (1, 8, 1, 1)]
    assert shapes(regions, pooled) == of_rfcn
