"""Reorg and the detections of YOLO against loops over cells and anchors."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run


def reorganised_by_loops(x: np.ndarray, stride: int, reverse: bool) -> np.ndarray:
    n, c, h, w = x.shape
    planes = c // stride**2
    flat, out = x.reshape(n, -1), np.zeros((n, x[0].size))
    for k in range(c):
        offset, plane = divmod(k, planes)
        for i in range(h):
            for j in range(w):
                p = (k * h + i) * w + j
                row, column = i * stride + offset // stride, j * stride + offset % stride
                q = (plane * h * stride + row) * w * stride + column
                if reverse:
                    out[:, q] = flat[:, p]
                else:
                    out[:, p] = flat[:, q]
    shape = (planes, h * stride, w * stride)
    return out.reshape(n, *(shape if reverse else (c * stride**2, h // stride, w // stride)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_reorg(stride: int, reverse: bool) -> None:
    x = distinct((2, 12, 4, 6))
    text = f"reorg_param {{ stride: {stride} reverse: {str(reverse).lower()} }}"
    expected = reorganised_by_loops(x.numpy(), stride, reverse)
    np.testing.assert_array_equal(run("Reorg", text, x)[0], expected)


@pytest.mark.parametrize(
    ("shape", "text", "sentence"),
    [
        ((1, 8, 3, 4), "reorg_param { stride: 2 }", "and of 2 rows and columns"),
        ((1, 6, 4, 4), "reorg_param { stride: 2 reverse: true }", "a multiple of 4 channels$"),
        ((1, 8, 4, 4), "reorg_param { stride: 0 }", "stride is 0, it must be positive"),
        ((1, 8, 3, 4), "", "stride 2 needs"),
    ],
)
def test_reorg_refuses(shape: Sequence[int], text: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        run("Reorg", text, torch.zeros(*shape))


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


Detection = tuple[float, int, list[float]]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    ]
    if min(sides) < 0:
        return 0.0
    common = sides[0] * sides[1]
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def rows_of(found: list[Detection], threshold: float) -> list[list[float]]:
    kept: list[Detection] = []
    for one in sorted(found, key=lambda entry: -entry[0]):
        if all(overlap(other[2], one[2]) < threshold for other in kept):
            kept.append(one)
    return [
        [0, label, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for score, label, (x, y, w, h) in kept
    ]


def values(shape: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


YOLO2 = """yolo_detection_output_param { num_classes: 3 num_box: 2 confidence_threshold: 0.25
           nms_threshold: 0.45 biases: 1.5 biases: 2 biases: 3 biases: 1 }"""


@pytest.mark.parametrize("bottoms", [1, 2])
def test_detections_of_yolo_v2(bottoms: int) -> None:
    maps = [values((1, 16, side, side), side) for side in (5, 3)][:bottoms]
    biases = [(1.5, 2), (3, 1)]
    found: list[Detection] = []
    for cells in maps:
        side = cells.shape[2]
        for j in range(side):
            for i in range(side):
                for a, (wide, high) in enumerate(biases):
                    x, y, w, h, o, *scores = cells[0, 8 * a : 8 * a + 8, j, i].tolist()
                    shares = torch.tensor(scores, dtype=torch.float64).softmax(0)
                    box = [(i + sigmoid(x)) / side, (j + sigmoid(y)) / side]
                    box += [exp(w) * wide / side, exp(h) * high / side]
                    score = sigmoid(o) * float(shares.max())
                    if score >= 0.25:
                        found.append((score, int(shares.argmax()) + 1, box))
    (top,) = run("YoloDetectionOutput", YOLO2, *maps)
    expected = rows_of(found, 0.45)
    assert 2 < len(expected) < len(found)
    np.testing.assert_allclose(top[0, 0], expected)


YOLO3 = """yolov3_detection_output_param { num_classes: 2 num_box: 2 confidence_threshold: 0.3
           nms_threshold: 0.4 biases: 10 biases: 13 biases: 33 biases: 23 biases: 62 biases: 45
           mask: 1 mask: 2 mask: 0 mask: 1 mask_group_num: 2 anchors_scale: 16 anchors_scale: 8 }"""


def test_detections_of_yolo_v3() -> None:
    maps = [values((1, 14, 3, 4), 1), values((1, 14, 6, 8), 2)]
    anchors = [(10, 13), (33, 23), (62, 45)]
    found: list[Detection] = []
    for cells, mask, scale in zip(maps, [(1, 2), (0, 1)], [16, 8], strict=True):
        height, width = cells.shape[2:]
        for j in range(height):
            for i in range(width):
                for a, at in enumerate(mask):
                    x, y, w, h, o, *scores = cells[0, 7 * a : 7 * a + 7, j, i].tolist()
                    box = [(i + sigmoid(x)) / width, (j + sigmoid(y)) / height]
                    box += [exp(w) * anchors[at][0] / (width * scale)]
                    box += [exp(h) * anchors[at][1] / (height * scale)]
                    for c, value in enumerate(scores):
                        score = sigmoid(o) * sigmoid(value)
                        if score > 0.3:
                            found.append((score, c + 1, box))
    (top,) = run("Yolov3DetectionOutput", YOLO3, *maps)
    expected = rows_of(found, float(np.float32(0.4)))
    assert 2 < len(expected) < len(found)
    np.testing.assert_allclose(top[0, 0], expected)


def test_without_detections() -> None:
    maps = [torch.full((2, 16, 3, 3), -50.0)]
    (top,) = run("YoloDetectionOutput", YOLO2, *maps)
    assert top.tolist() == [[[[0, *[-1] * 6], [1, *[-1] * 6]]]]
    layer = made("YoloDetectionOutput", YOLO2, (2, 16, 3, 3))
    assert layer.infer(maps[0].to("meta")).shape == (1, 1, 1, 7)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("mask_group_num: 2", "mask_group_num: 3", "2 bottoms, mask_group_num 3 and 2"),
        ("mask: 1 mask: 2", "mask: 1", "it needs 2 anchors for each map"),
        ("mask: 1 mask: 2", "mask: 1 mask: 3", "two biases for each anchor"),
        ("num_classes: 2", "num_classes: 3", "expected 16 channels, for 2 anchors and 3 classes"),
        ("nms_threshold", "gaussian_box: true nms_threshold", "gaussian_box is not supported"),
    ],
)
def test_settings_of_yolo_v3_are_refused(old: str, new: str, sentence: str) -> None:
    maps = [values((1, 14, 3, 4), 1), values((1, 14, 6, 8), 2)]
    with pytest.raises(LayerError, match=sentence):
        run("Yolov3DetectionOutput", YOLO3.replace(old, new, 1), *maps)
