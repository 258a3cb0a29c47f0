"""Proposals and detections of MS-CNN and Cascade R-CNN against loops over positions and boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run

Box = Sequence[float]
NORMALISED = (
    "bbox_reg_param { bbox_mean: 0 bbox_mean: 0.1 bbox_mean: 0 bbox_mean: 0 "
    "bbox_std: 0.5 bbox_std: 0.5 bbox_std: 0.25 bbox_std: 0.25 }"
)
MEANS, STDS = (0, float(np.float32(0.1)), 0, 0), (0.5, 0.5, 0.25, 0.25)


def values(shape: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def part(kind: str, common: float, first: float, second: float) -> float:
    if kind == "IOMU":
        return common / min(first, second)
    return common / (first if kind == "IOFU" else first + second - common)


def by_corners(kind: str, a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide < 0 or high <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return part(kind, (wide + 1) * (high + 1), *areas)


def by_sizes(kind: str, a: Box, b: Box) -> float:
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return part(kind, wide * high, a[2] * a[3], b[2] * b[3])


def kept(boxes: list[tuple[float, list[float]]], overlap: Callable[[Box, Box], float]) -> list[int]:
    stay: list[int] = []
    for i, (_, box) in enumerate(boxes):
        if all(overlap(boxes[k][1], box) <= 0.5 for k in stay):
            stay.append(i)
    return stay


def moved(deltas: Sequence[float], y: int, x: int, field: Box, stride: int) -> list[float]:
    """x, y, width and height of a box, before it is cut."""
    dx, dy, dw, dh = (d * s + m for d, s, m in zip(deltas, STDS, MEANS, strict=True))
    dx, dy = (min(max(v, -0.5), 0.5) for v in (dx, dy))
    dw, dh = (min(max(v, -log(2)), log(2)) for v in (dw, dh))
    wide, high = field[0] * exp(dw), field[1] * exp(dh)
    left = dx * field[0] + (x + 0.5) * stride - wide / 2
    return [left, dy * field[1] + (y + 0.5) * stride - high / 2, wide, high]


@pytest.mark.parametrize("kind", ["IOU", "IOMU", "IOFU"])
def test_box_group_output(kind: str) -> None:
    levels = [(8, [(16, 12), (10, 24)], (3, 4)), (16, [(30, 30)], (2, 2))]
    bottoms, text = [], ""
    for i, (stride, fields, (height, width)) in enumerate(levels):
        count = 2 * len(fields)
        bottoms += [
            values((count, 3, height, width), i).softmax(1),
            values((count, 4, height, width), i + 5),
        ]
        own = " ".join(f"field_w: {w} field_h: {h}" for w, h in fields)
        text += f"box_group_param {{ stride: {stride} {own} }} "
    layer = (
        f"box_group_output_param {{ {text} fg_thr: 0.4 iou_thr: 0.5 nms_type: '{kind}' "
        f"max_nms_num: 20 max_post_nms_num: 6 min_size: 9 }} {NORMALISED}"
    )
    regions, scored = run("BoxGroupOutput", layer, *bottoms, tops=2)
    expected = []
    for image in range(2):
        found = []
        for i, (stride, fields, (height, width)) in enumerate(levels):
            for k, field in enumerate(fields):
                at = image * len(fields) + k
                for y in range(height):
                    for x in range(width):
                        score = 1 - float(bottoms[2 * i][at, 0, y, x])
                        deltas = bottoms[2 * i + 1][at, :, y, x].tolist()
                        left, top, wide, high = moved(deltas, y, x, field, stride)
                        box = [max(left, 0), max(top, 0)]
                        box += [min(left + wide - 1, width * stride)]
                        box += [min(top + high - 1, height * stride)]
                        if (
                            score >= np.float32(0.4)
                            and min(box[2] - box[0] + 1, box[3] - box[1] + 1) >= 9
                        ):
                            found.append((score, box))
        found = sorted(found, key=lambda pair: -pair[0])[:20]
        stay = kept(found, lambda a, b: by_corners(kind, a, b))[:6]
        expected += [[image, *found[k][1], found[k][0]] for k in stay]
    np.testing.assert_allclose(scored[:, :, 0, 0], expected)
    assert torch.equal(regions, scored[:, :5])


@pytest.mark.parametrize("kind", ["IOU", "IOMU", "IOFU"])
def test_box_output(kind: str) -> None:
    maps = [values((2, 7, 3, 4), 1), values((2, 7, 2, 2), 2)]
    fields, strides = [(16, 12), (30, 26)], [8, 16]
    text = (
        f"box_output_param {{ field_w: 16 field_h: 12 field_w: 30 field_h: 26 fg_thr: -1 "
        f"downsample_rate: 8 downsample_rate: 16 iou_thr: 0.5 nms_type: '{kind}' min_size: 9 "
        f"max_nms_num: 12 }} {NORMALISED}"
    )
    _, scored = run("BoxOutput", text, *maps, tops=2)
    expected = []
    for image in range(2):
        found = []
        for cells, field, stride in zip(maps, fields, strides, strict=True):
            height, width = cells.shape[2:]
            for y in range(height):
                for x in range(width):
                    column = cells[image, :, y, x].tolist()
                    score = max(column[1:3]) - column[0]
                    left, top, wide, high = moved(column[3:], y, x, field, stride)
                    left, top = max(left, 0), max(top, 0)
                    wide, high = min(wide, width * stride - left), min(high, height * stride - top)
                    if score >= -1 and min(wide, high) >= 9:
                        found.append((score, [left, top, wide, high]))
        found = sorted(found, key=lambda pair: -pair[0])[:12]
        for k in kept(found, lambda a, b: by_sizes(kind, a, b)):
            left, top, wide, high = found[k][1]
            expected.append([image, left, top, left + wide, top + high, found[k][0]])
    np.testing.assert_allclose(scored[:, :, 0, 0], expected)


def test_no_proposal_is_one_region() -> None:
    text = "box_output_param { field_w: 9 field_h: 9 downsample_rate: 8 fg_thr: 99 }"
    regions, scored = run("BoxOutput", text, torch.zeros(2, 6, 2, 2), tops=2)
    assert regions.flatten().tolist() == [0, 1, 1, 10, 10]
    assert scored.flatten().tolist() == [0] * 6


def regions_of(count: int) -> Tensor:
    low = torch.rand(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 40
    size = torch.rand(count, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return torch.cat([torch.zeros(count, 1), low, low + size * 20 + 5], 1)


def decoded(region: Box, deltas: Box) -> list[float]:
    """x1, y1, x2, y2: corners are pixels in the box, of which the last one counts."""
    dx, dy, dw, dh = (d * s + m for d, s, m in zip(deltas, STDS, MEANS, strict=True))
    wide, high = region[3] - region[1] + 1, region[4] - region[2] + 1
    new_wide, new_high = wide * exp(dw), high * exp(dh)
    left = dx * wide + (region[1] + region[3]) / 2 - (new_wide - 1) / 2
    top = dy * high + (region[2] + region[4]) / 2 - (new_high - 1) / 2
    return [left, top, left + new_wide - 1, top + new_high - 1]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_decode_bbox(phase: str) -> None:
    regions, deltas = regions_of(7), values((7, 8), 3)
    deltas[2, 6] = -60.0
    matched = torch.linspace(0.5, 1, 7, dtype=torch.float64)[:, None].repeat(1, 6)
    bottoms = (deltas, regions, matched) if phase == "TRAIN" else (deltas, regions)
    text = f"{NORMALISED} decode_bbox_param {{ gt_iou_thr: 0.9 }}"
    (top,) = run("DecodeBBox", text, *bottoms, phase=phase)
    rows = zip(regions.tolist(), deltas.tolist(), strict=True)
    boxes = [[0, *decoded(region, row[4:])] for region, row in rows]
    if phase == "TRAIN":
        boxes = [box for i, box in enumerate(boxes) if i in (0, 1, 3, 4)]
    np.testing.assert_allclose(top[:, :, 0, 0], boxes)


@pytest.mark.parametrize("most", [0, 4])
@pytest.mark.parametrize("aware", [True, False])
def test_frcnn_output(aware: bool, most: int) -> None:
    regions, count = regions_of(9), 3
    shares = values((9, count), 5).softmax(1)
    deltas = values((9, 4 * count if aware else 8), 6) * 0.5
    size = torch.tensor([[50.0, 60.0]], dtype=torch.float64)
    text = (
        f"frcnn_output_param {{ conf_thr: 0.2 iou_thr: 0.5 max_det_num: {most} }} "
        f"{NORMALISED[:-1]} cls_aware: {str(aware).lower()} }}"
    )
    (top,) = run("FrcnnOutput", text, shares, deltas, regions, size)
    expected: list[list[float]] = []
    for label in range(1, count):
        found = []
        start = 4 * label if aware else 4
        for r in range(9):
            box = decoded(regions[r].tolist(), deltas[r, start : start + 4].tolist())
            cut = [max(box[0], 0), max(box[1], 0), min(box[2], 60), min(box[3], 50)]
            if shares[r, label] >= np.float32(0.2):
                found.append((float(shares[r, label]), cut))
        found.sort(key=lambda pair: -pair[0])
        stay = kept(found, lambda a, b: by_corners("IOU", a, b))
        expected += [[0, *found[k][1], label, found[k][0]] for k in stay]
    if most:
        best = sorted(expected, key=lambda row: -row[6])[:most]
        assert len(best) < len(expected)
        expected = sorted(best, key=lambda row: row[5])
    first: list[float] = [0, *[-1.0] * 6]
    np.testing.assert_allclose(top[:, :, 0, 0], [first, *expected])


def test_feature_extrapolating() -> None:
    text = (
        "feature_extrapolating_param { scale_string: '0.5 1.0 2.0' num_scale_base: 3 "
        "num_per_octave: 2 }"
    )
    x = distinct((6, 2, 4, 5))
    (top,) = run("FeatureExtrapolating", text, x)
    assert top.shape == (10, 2, 4, 5)
    for image in range(2):
        for i, (given, ratio) in enumerate([(0, 1), (1, 0.75), (1, 1), (2, 0.75), (2, 1)]):
            source = x[3 * image + given].numpy()
            for row in range(4):
                for column in range(5):
                    y, left = row / ratio, column / ratio
                    expected = np.zeros(2)
                    for yy in range(4):
                        for xx in range(5):
                            share = max(0, 1 - abs(y - yy)) * max(0, 1 - abs(left - xx))
                            inside = y < 4 and left < 5
                            expected += source[:, yy, xx] * share * inside
                    np.testing.assert_allclose(top[5 * image + i, :, row, column], expected)


@pytest.mark.parametrize(
    ("kind", "text", "shapes", "sentence"),
    [
        (
            "BoxOutput",
            "box_output_param { field_w: 3 }",
            [(1, 6, 2, 2)],
            "1 bottoms, but 1 field_w",
        ),
        ("BoxGroupOutput", "", [(1, 2, 3, 3), (1, 4, 3, 3)], "2 bottoms and 0 box_group_param"),
        (
            "DecodeBBox",
            "bbox_reg_param { bbox_mean: 1 bbox_std: 1 }",
            [(3, 8), (3, 5)],
            "expected four of each",
        ),
        (
            "FeatureExtrapolating",
            "feature_extrapolating_param { scale_string: '1 x' num_scale_base: 2 }",
            [(2, 1, 3, 3)],
            "scale_string is '1 x'",
        ),
    ],
)
def test_settings_are_refused(
    kind: str, text: str, shapes: list[tuple[int, ...]], sentence: str
) -> None:
    with pytest.raises(LayerError, match=sentence):
        made(kind, text, *shapes)
