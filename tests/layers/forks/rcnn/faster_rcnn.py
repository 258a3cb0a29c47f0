"""A small Faster R-CNN, a made-up set of images for it, and the mean average precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from caffecompat import Net
from caffecompat.layers.forks.rcnn._pixel_boxes import decode, overlaps, suppress

SIDE = 64
CLASSES = 3
# Anchors of 16 and 32 pixels, 8 pixels apart.
ANCHORS = r"'feat_stride': 8\n'base_size': 8\n'scales': [2, 4]"
STDS = (0.1, 0.1, 0.2, 0.2)


def _convolution(name: str, bottom: str, outputs: int, size: int = 3, more: str = "") -> str:
    return f"""
    layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
            convolution_param {{ num_output: {outputs} kernel_size: {size} pad: {size // 2} {more}
                                weight_filler {{ type: "msra" }} }} }}"""


def _relu(name: str) -> str:
    return f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}'


def _python(name: str, layer: str, bottoms: Sequence[str], tops: Sequence[str], text: str) -> str:
    module = {"ProposalLayer": "proposal", "AnchorTargetLayer": "anchor_target"}
    blobs = [f'bottom: "{blob}"' for blob in bottoms] + [f'top: "{blob}"' for blob in tops]
    return f"""
    layer {{ name: "{name}" type: "Python" {" ".join(blobs)}
            python_param {{ module: "rpn.{module.get(layer, "proposal_target")}_layer"
                           layer: "{layer}" param_str: "{text}" }} }}"""


def _inner_product(name: str, bottom: str, outputs: int, std: float) -> str:
    return f"""
    layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}"
            inner_product_param {{ num_output: {outputs}
                                  weight_filler {{ type: "gaussian" std: {std} }} }} }}"""


def _features() -> str:
    return "".join(
        [
            """
            layer { name: "small" type: "Power" bottom: "data" top: "small"
                    power_param { scale: 0.02 } }""",
            _convolution("conv1", "small", 16, more="stride: 2"),
            _relu("conv1"),
            _convolution("conv2", "conv1", 24, more="stride: 2"),
            _relu("conv2"),
            _convolution("conv3", "conv2", 32, more="stride: 2"),
            _relu("conv3"),
            _convolution("rpn", "conv3", 32),
            _relu("rpn"),
            _convolution("rpn_cls_score", "rpn", 12, 1),
            _convolution("rpn_bbox_pred", "rpn", 24, 1),
            """
            layer { name: "pairs" type: "Reshape" bottom: "rpn_cls_score" top: "pairs"
                    reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
            layer { name: "rpn_prob" type: "Softmax" bottom: "pairs" top: "rpn_prob" }
            layer { name: "rpn_cls_prob" type: "Reshape" bottom: "rpn_prob" top: "rpn_cls_prob"
                    reshape_param { shape { dim: 0 dim: 12 dim: -1 dim: 0 } } }""",
        ]
    )


def _head(regions: str) -> str:
    return "".join(
        [
            f"""
            layer {{ name: "pool" type: "ROIPooling" bottom: "conv3" bottom: "{regions}" top: "pool"
                    roi_pooling_param {{ pooled_h: 4 pooled_w: 4 spatial_scale: 0.125 }} }}""",
            _inner_product("fc", "pool", 48, 0.05),
            _relu("fc"),
            _inner_product("cls_score", "fc", CLASSES, 0.05),
            _inner_product("bbox_pred", "fc", 4 * CLASSES, 0.01),
        ]
    )


def train_net(source: Path) -> str:
    options = rf"'num_classes': {CLASSES}\n'source': '{source}'\n'root_folder': '{source.parent}/'"
    targets = ["rpn_labels", "rpn_targets", "rpn_inside", "rpn_outside"]
    sampled = ["rois", "labels", "targets", "inside", "outside"]
    limits = r"\n'RPN_PRE_NMS_TOP_N': 300\n'RPN_POST_NMS_TOP_N': 60\n'RPN_MIN_SIZE': 4"
    return "".join(
        [
            f"""
            layer {{ name: "input" type: "Python" top: "data" top: "im_info" top: "gt_boxes"
                    python_param {{ module: "roi_data_layer.layer" layer: "RoIDataLayer"
                    param_str: "{options}\\n'SCALES': [{SIDE}]\\n'MAX_SIZE': {SIDE}" }} }}""",
            _features(),
            _python(
                "rpn_data",
                "AnchorTargetLayer",
                ["rpn_cls_score", "gt_boxes", "im_info", "data"],
                targets,
                ANCHORS + r"\n'RPN_BATCHSIZE': 64",
            ),
            """
            layer { name: "rpn_loss_cls" type: "SoftmaxWithLoss" bottom: "pairs"
                    bottom: "rpn_labels" top: "rpn_loss_cls" propagate_down: 1 propagate_down: 0
                    loss_param { ignore_label: -1 } }
            layer { name: "rpn_loss_bbox" type: "SmoothL1Loss" bottom: "rpn_bbox_pred"
                    bottom: "rpn_targets" bottom: "rpn_inside" bottom: "rpn_outside"
                    top: "rpn_loss_bbox" smooth_l1_loss_param { sigma: 3 } }""",
            _python(
                "proposal",
                "ProposalLayer",
                ["rpn_cls_prob", "rpn_bbox_pred", "im_info"],
                ["rpn_rois"],
                ANCHORS + limits,
            ),
            _python(
                "roi_data",
                "ProposalTargetLayer",
                ["rpn_rois", "gt_boxes"],
                sampled,
                rf"'num_classes': {CLASSES}\n'BATCH_SIZE': 32",
            ),
            _head("rois"),
            """
            layer { name: "loss_cls" type: "SoftmaxWithLoss" bottom: "cls_score" bottom: "labels"
                    top: "loss_cls" }
            layer { name: "loss_bbox" type: "SmoothL1Loss" bottom: "bbox_pred" bottom: "targets"
                    bottom: "inside" bottom: "outside" top: "loss_bbox" }""",
        ]
    )


def deploy_net() -> str:
    limits = r"\n'RPN_PRE_NMS_TOP_N': 300\n'RPN_POST_NMS_TOP_N': 30\n'RPN_MIN_SIZE': 4"
    return "".join(
        [
            f"""
            layer {{ name: "input" type: "Input" top: "data" top: "im_info"
                    input_param {{ shape {{ dim: 1 dim: 3 dim: {SIDE} dim: {SIDE} }}
                                  shape {{ dim: 1 dim: 3 }} }} }}""",
            _features(),
            _python(
                "proposal",
                "ProposalLayer",
                ["rpn_cls_prob", "rpn_bbox_pred", "im_info"],
                ["rois"],
                ANCHORS + limits,
            ),
            _head("rois"),
            'layer { name: "prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }',
        ]
    )


def write_images(folder: Path, name: str, count: int, seed: int) -> Path:
    """Noisy images, each with up to two red or blue rectangles; returns the list of boxes."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(count):
        image = rng.integers(105, 125, (SIDE, SIDE, 3)).astype(np.uint8)
        taken: list[tuple[int, int, int, int]] = []
        for _ in range(2):
            wide, high = (int(v) for v in rng.integers(18, 30, 2))
            x, y = int(rng.integers(0, SIDE - wide)), int(rng.integers(0, SIDE - high))
            box = (x, y, x + wide - 1, y + high - 1)
            if any(x <= b[2] and b[0] <= box[2] and y <= b[3] and b[1] <= box[3] for b in taken):
                continue
            taken.append(box)
            label = int(rng.integers(2))
            colour = (30, 30, 220) if label else (220, 30, 30)
            image[y : y + high, x : x + wide] = colour
            lines.append(f"{name}{i}.png {label} {' '.join(map(str, box))}")
        cv2.imwrite(str(folder / f"{name}{i}.png"), image)
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.txt"


Detection = tuple[float, str, torch.Tensor]


def detections(net: Net, folder: Path, names: Sequence[str]) -> dict[int, list[Detection]]:
    """For each class the detections in all images: score, image, box."""
    found: dict[int, list[Detection]] = {c: [] for c in range(1, CLASSES)}
    means = np.array([102.9801, 115.9465, 122.7717], np.float32)
    for name in names:
        stored = cv2.imread(str(folder / name))
        assert stored is not None
        pixels = stored.astype(np.float32) - means
        image = pixels.transpose(2, 0, 1)[None].copy()
        with torch.no_grad():
            net.forward(data=image, im_info=np.array([[SIDE, SIDE, 1]], np.float32))
        blob: Any = {key: net.blobs[key].data for key in ("rois", "bbox_pred", "cls_prob")}
        deltas = blob["bbox_pred"] * torch.tensor(STDS).repeat(CLASSES)
        boxes = decode(blob["rois"][:, 1:], deltas).clamp(0, SIDE - 1)
        for c, entries in found.items():
            scores = blob["cls_prob"][:, c]
            order = scores.argsort(descending=True)
            own = boxes[order, 4 * c : 4 * c + 4]
            for k in suppress(own, 0.3).tolist():
                entries.append((float(scores[order][k]), name, own[k]))
    return found


def mean_average_precision(net: Net, source: Path) -> float:
    """The mean over classes of the area under precision by recall, at an overlap of 0.5."""
    truth: dict[tuple[int, str], list[list[float]]] = {}
    for line in source.read_text().splitlines():
        name, label, *corners = line.split()
        truth.setdefault((int(label) + 1, name), []).append([float(v) for v in corners])
    names = sorted({name for _, name in truth})
    found = detections(net, source.parent, names)
    areas = []
    for c, entries in found.items():
        total = sum(len(boxes) for (label, _), boxes in truth.items() if label == c)
        taken: set[tuple[str, int]] = set()
        hits = []
        for _, name, box in sorted(entries, key=lambda entry: -entry[0]):
            known = truth.get((c, name), [])
            shared = overlaps(box[None], torch.tensor(known).reshape(-1, 4))[0]
            best = int(shared.argmax()) if len(known) else 0
            hit = bool(known) and float(shared[best]) >= 0.5 and (name, best) not in taken
            taken.add((name, best)) if hit else None
            hits.append(hit)
        right = np.cumsum(hits)
        precision = right / np.arange(1, len(hits) + 1)
        best_from = np.maximum.accumulate(precision[::-1])[::-1]
        areas.append(float((best_from * hits).sum() / total))
    return float(np.mean(areas))
