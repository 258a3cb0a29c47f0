"""Losses of YOLO against loops over cells, anchors and objects."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.forks.yolo.values import overlap, sigmoid, values
from tests.layers.messages import made, run

# [class, x, y, width, height]; the second list has two objects of one cell, then the end.
OBJECTS = torch.tensor(
    [
        [[0, 0.3, 0.4, 0.25, 0.3], [2, 0.8, 0.75, 0.5, 0.2], [1, 0.55, 0.1, 0.1, 0.15]],
        [[1, 0.52, 0.52, 0.3, 0.3], [2, 0.58, 0.55, 0.31, 0.28], [0, 0, 0, 0, 0]],
    ],
    dtype=torch.float64,
)
SIDE = 4
BIASES = [(1.2, 1.0), (0.8, 1.9)]


@pytest.mark.parametrize("rescore", [1, 0])
@pytest.mark.parametrize("match", [1, 0])
def test_region_loss(match: int, rescore: int) -> None:
    x = values((2, 16, SIDE, SIDE), 1).requires_grad_(True)
    text = (
        "region_loss_param { num_class: 3 num: 2 biases: 1.2 biases: 1.0 biases: 0.8 biases: 1.9 "
        f"bias_match: {match} rescore: {rescore} object_scale: 5 noobject_scale: 0.5 "
        "class_scale: 2 coord_scale: 1.5 thresh: 0.3 }"
    )
    (loss,) = run("RegionLoss", text, x, OBJECTS)
    table = x.detach().numpy().reshape(2, 2, 8, SIDE, SIDE)
    wanted = np.zeros_like(table)
    biases = np.array(BIASES, np.float32).tolist()
    for image in range(2):
        objects = [row for row in OBJECTS[image].tolist() if row[1]]

        def box(a: int, j: int, i: int, image: int = image) -> list[float]:
            tx, ty, tw, th = table[image, a, :4, j, i]
            place = [(i + sigmoid(tx)) / SIDE, (j + sigmoid(ty)) / SIDE]
            return [*place, exp(tw) * biases[a][0] / SIDE, exp(th) * biases[a][1] / SIDE]

        for a in range(2):
            for j in range(SIDE):
                for i in range(SIDE):
                    o = sigmoid(table[image, a, 4, j, i])
                    best = max(overlap(box(a, j, i), row[1:]) for row in objects)
                    if best <= np.float32(0.3):
                        wanted[image, a, 4, j, i] = 0.5 * o * o * (1 - o)
        for label, cx, cy, w, h in objects:
            i, j = int(cx * SIDE), int(cy * SIDE)
            shapes = [[b[0] / SIDE, b[1] / SIDE] for b in biases]
            if not match:
                shapes = [box(a, j, i)[2:] for a in range(2)]
            shared = [overlap([0, 0, *shape], [0, 0, w, h]) for shape in shapes]
            a = int(np.argmax(shared))
            tx, ty, tw, th, o, *scores = table[image, a, :, j, i]
            scale = 1.5 if rescore else 1.5 * (2 - w * h)
            sx, sy, o = sigmoid(tx), sigmoid(ty), sigmoid(o)
            aim = overlap(box(a, j, i), [cx, cy, w, h]) if rescore else 1
            shares = np.exp(scores) / np.exp(scores).sum()
            wanted[image, a, :, j, i] = [
                -scale * (cx * SIDE - i - sx) * sx * (1 - sx),
                -scale * (cy * SIDE - j - sy) * sy * (1 - sy),
                -scale * (log(w * SIDE / biases[a][0]) - tw),
                -scale * (log(h * SIDE / biases[a][1]) - th),
                -5 * (aim - o) * o * (1 - o),
                *(2 * (shares - np.eye(3)[int(label)])),
            ]
    assert float(loss.detach()) == pytest.approx((wanted**2).sum() / 2)
    loss.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy().reshape(wanted.shape), wanted / 2, atol=1e-9)


# Rows [image, class, instance, xmin, ymin, xmax, ymax, difficult]; the last has no area.
ANNOTATED = torch.tensor(
    [
        [0, 1, 0, 0.1, 0.2, 0.5, 0.6, 0],
        [1, 3, 0, 0.55, 0.3, 0.95, 0.9, 0],
        [-1, 0, 0, 0, 0, 0, 0, 0],
        [0, 2, 0, 0.6, 0.65, 0.99, 0.85, 0],
        [1, 2, 0, 0.5, 0.5, 0.5, 0.9, 0],
    ],
    dtype=torch.float64,
).reshape(1, 1, 5, 8)


@pytest.mark.parametrize("match", [1, 0])
def test_region_loss_of_annotated_data(match: int) -> None:
    x = (2 * values((2, 16, SIDE, SIDE), 1)).requires_grad_(True)
    text = (
        "region_loss_param { num_class: 3 num: 2 biases: 1.2 biases: 1.0 biases: 0.8 biases: 1.9 "
        f"bias_match: {match} object_scale: 5 noobject_scale: 0.5 class_scale: 2 coord_scale: 1.5 "
        "thresh: 0.3 }"
    )
    (loss,) = run("RegionLoss", text, x, ANNOTATED)
    table = x.detach().numpy().reshape(2, 2, 8, SIDE, SIDE)
    wanted = np.zeros_like(table)
    biases = np.array(BIASES, np.float32).tolist()
    for image in range(2):
        objects = [
            [c - 1, (a + e) / 2, (b + f) / 2, e - a, f - b]
            for n, c, _, a, b, e, f, _ in ANNOTATED[0, 0].tolist()
            if n == image and e > a
        ]

        def box(a: int, j: int, i: int, image: int = image) -> list[float]:
            tx, ty, tw, th = table[image, a, :4, j, i]
            place = [(i + sigmoid(tx)) / SIDE, (j + sigmoid(ty)) / SIDE]
            return [*place, exp(tw) * biases[a][0] / SIDE, exp(th) * biases[a][1] / SIDE]

        for a, j, i in np.ndindex(2, SIDE, SIDE):
            o = sigmoid(table[image, a, 4, j, i])
            if max(overlap(box(a, j, i), row[1:]) for row in objects) <= np.float32(0.3):
                wanted[image, a, 4, j, i] = 0.5 * o * o * (1 - o)
        for label, cx, cy, w, h in objects:
            i, j = int(cx * SIDE), int(cy * SIDE)
            shapes = [[b[0] / SIDE, b[1] / SIDE] for b in biases]
            if not match:
                shapes = [box(a, j, i)[2:] for a in range(2)]
            shared = [overlap([0, 0, *shape], [0, 0, w, h]) for shape in shapes]
            a = int(np.argmax(shared))
            tx, ty, tw, th, o, *scores = table[image, a, :, j, i]
            sx, sy, o = sigmoid(tx), sigmoid(ty), sigmoid(o)
            off = [cx * SIDE - i - sx, cy * SIDE - j - sy]
            off += [log(w * SIDE / biases[a][0]) - tw, log(h * SIDE / biases[a][1]) - th]
            off = [min(max(one, -1), 1) for one in off]
            shares = np.exp(scores) / np.exp(scores).sum()
            wanted[image, a, :, j, i] = [
                -1.5 * off[0] * sx * (1 - sx),
                -1.5 * off[1] * sy * (1 - sy),
                -1.5 * off[2],
                -1.5 * off[3],
                -5 * 2 * (1 - o) ** 3 * o * (1 - o),
                *(2 * (shares - np.eye(3)[int(label)])),
            ]
    assert float(loss.detach()) == pytest.approx((wanted**2).sum())
    loss.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy().reshape(wanted.shape), wanted / 2, atol=1e-9)


def test_region_loss_names_a_label_of_another_batch() -> None:
    text = "region_loss_param { num_class: 3 num: 2 biases: 1 biases: 1 biases: 1 biases: 1 }"
    labels = ANNOTATED.clone()
    labels[0, 0, 0, 0] = 7
    with pytest.raises(LayerError, match="an object of image 7, but the batch has 2 images"):
        run("RegionLoss", text, values((2, 16, SIDE, SIDE), 1), labels)


ANCHORS = [(10, 13), (33, 23), (62, 45)]
YOLO3 = (
    "yolov3_param { num_class: 3 num: 2 mask: 1 mask: 2 biases: 10 biases: 13 biases: 33 "
    "biases: 23 biases: 62 biases: 45 anchors_scale: 16 coord_scale: 1.5 class_scale: 2 "
    "object_scale: 3 thresh: 0.3 iou_thresh: 0.4 label_smooth_eps: 0.25 "
)


@pytest.mark.parametrize("logic", [False, True])
def test_yolo_v3_loss(logic: bool) -> None:
    height, width = 4, 6
    x = values((2, 16, height, width), 2).requires_grad_(True)
    (loss,) = run("Yolov3", f"{YOLO3} use_logic_gradient: {str(logic).lower()} }}", x, OBJECTS)
    table = x.detach().numpy().reshape(2, 2, 8, height, width)
    wanted = np.zeros_like(table)
    size = (width * 16, height * 16)
    mask = [1, 2]
    for image in range(2):
        objects = [row for row in OBJECTS[image].tolist() if row[1]]
        for a in range(2):
            for j in range(height):
                for i in range(width):
                    tx, ty, tw, th, o = table[image, a, :5, j, i]
                    box = [(i + sigmoid(tx)) / width, (j + sigmoid(ty)) / height]
                    box += [exp(tw) * ANCHORS[mask[a]][0] / size[0]]
                    box += [exp(th) * ANCHORS[mask[a]][1] / size[1]]
                    if max(overlap(box, row[1:]) for row in objects) <= np.float32(0.3):
                        wanted[image, a, 4, j, i] = sigmoid(o)
        for label, cx, cy, w, h in objects:
            i, j = int(cx * width), int(cy * height)
            shared = [
                overlap([0, 0, b[0] / size[0], b[1] / size[1]], [0, 0, w, h]) for b in ANCHORS
            ]
            nearest = int(np.argmax(shared))
            taken = mask.index(nearest) if nearest in mask else nearest
            chosen = [taken] if nearest in mask else []
            chosen += [
                mask.index(k)
                for k in range(3)
                if k in mask and k != taken and shared[k] > np.float32(0.4)
            ]
            for a in chosen:
                tx, ty, tw, th, o, *scores = table[image, a, :, j, i]
                scale = 1.5 * (2 - w * h)
                own = ANCHORS[mask[a]]
                before = wanted[image, a, 5:, j, i].copy()
                aims = np.eye(3)[int(label)] * 0.75 + 0.125
                classes = -2 * (aims - np.array([sigmoid(s) for s in scores]))
                if before[int(label)]:
                    before[int(label)] = classes[int(label)]
                    classes = before
                wanted[image, a, :, j, i] = [
                    -scale * (cx * width - i - sigmoid(tx)),
                    -scale * (cy * height - j - sigmoid(ty)),
                    -scale * (log(w * size[0] / own[0]) - tw),
                    -scale * (log(h * size[1] / own[1]) - th),
                    -(3 if logic else 1) * (1 - sigmoid(o)),
                    *classes,
                ]
    assert float(loss.detach()) == pytest.approx((wanted**2).sum() / 2)
    loss.backward()
    slopes = np.ones_like(wanted)
    if logic:
        slopes = np.vectorize(sigmoid)(table)
        slopes *= 1 - slopes
        slopes[:, :, 2:4] = 1
    assert x.grad is not None
    found = x.grad.numpy().reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted * slopes / 2, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_yolo_seg(weighted: bool) -> None:
    x = values((2, 3, 4, 5), 3).requires_grad_(True)
    labels = (values((2, 3, 4, 5), 4) > 0).double()
    counts = labels.sum((2, 3))
    bottoms = (x, labels, counts) if weighted else (x, labels)
    (loss,) = run("YoloSeg", "yolo_seg_param { object_scale: 0.5 }", *bottoms)
    wanted = np.zeros((2, 3, 4, 5))
    for n, c, i, j in np.ndindex(*wanted.shape):
        label = float(labels[n, c, i, j])
        weight = 1.0
        if weighted and label:
            weight = 2 - float(counts[:, c].sum() / (20 - counts[:, c]).sum())
        wanted[n, c, i, j] = 0.5 * weight * (sigmoid(float(x[n, c, i, j].detach())) - label)
    assert float(loss.detach()) == pytest.approx((wanted**2).sum() / 2)
    loss.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, wanted / 2)


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("RegionLoss", "region_loss_param { num: 3 biases: 1 }", "num is 3 and there are 1 biases"),
        ("RegionLoss", "region_loss_param { softmax_tree: 't' }", "softmax_tree, class_map"),
        ("Yolov3", YOLO3 + "iou_loss: GIOU }", "iou_loss GIOU is not supported"),
        ("Yolov3", YOLO3 + "use_focal_loss: true }", "use_focal_loss is not supported"),
        ("Yolov3", YOLO3 + "mask: 3 }", "biases two numbers for each"),
    ],
)
def test_settings_are_refused(kind: str, text: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        made(kind, text, (2, 16, 4, 4), (2, 3, 5))
