"""Losses and targets of Cascade R-CNN against loops over positions and regions."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import made, run

NORMALISED = (
    "bbox_reg_param { bbox_mean: 0 bbox_mean: 0 bbox_mean: 0 bbox_mean: 0 "
    "bbox_std: 0.5 bbox_std: 0.5 bbox_std: 0.25 bbox_std: 0.25 "
)
STDS = np.array([0.5, 0.5, 0.25, 0.25])
FIELDS = [(16, 12), (10, 24)]
FIELD_TEXT = "field_w: 16 field_h: 12 field_w: 10 field_h: 24 stride: 8"


def values(shape: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def target_maps() -> Tensor:
    """Two images with two anchors, 3 x 4 positions: classes, boxes and overlaps."""
    generator = torch.Generator().manual_seed(9)
    maps = torch.zeros(4, 6, 3, 4, dtype=torch.float64)
    maps[:, 0] = torch.randint(0, 3, (4, 3, 4), generator=generator) * (
        torch.rand(4, 3, 4, generator=generator) < 0.4
    )
    maps[:, 1:3] = torch.rand(4, 2, 3, 4, generator=generator, dtype=torch.float64) * 30
    maps[:, 3:5] = torch.rand(4, 2, 3, 4, generator=generator, dtype=torch.float64) * 20 + 1
    maps[:, 5] = torch.rand(4, 3, 4, generator=generator, dtype=torch.float64)
    return maps


def wanted_deltas(maps: np.ndarray, m: int, y: int, x: int) -> np.ndarray:
    wide, high = FIELDS[m % 2]
    _, cx, cy, w, h, _ = maps[m, :, y, x]
    found = [(cx - (x + 0.5) * 8) / wide, (cy - (y + 0.5) * 8) / high]
    return np.array([*found, log(max(w, 2) / wide), log(max(h, 2) / high)]) / STDS


def smooth(d: float) -> float:
    return 0.5 * d * d if abs(d) < 1 else abs(d) - 0.5


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_group_loss_of_all_objects_and_the_hardest_background(
    bounded: bool, weighted: bool
) -> None:
    scores, deltas = values((4, 3, 3, 4), 1), values((4, 4, 3, 4), 2) * 2
    maps = target_maps()
    limits = "field_xyr: 2 field_whr: 2" if bounded else ""
    text = (
        f"detection_group_loss_param {{ cls_num: 3 lambda: 0.5 {FIELD_TEXT} {limits} "
        f"bg_threshold: 0.6 bg_multiple: 1 neg_mining_type: 'bootstrap' min_num_neg: 2 "
        f"pos_neg_weighted: {str(weighted).lower()} }} {NORMALISED} }}"
    )
    scores.requires_grad_(True)
    deltas.requires_grad_(True)
    (top,) = run("DetectionGroupLoss", text, scores, deltas, maps)
    shares = scores.detach().softmax(1).numpy()
    table, kept = maps.numpy(), np.zeros((4, 3, 4), bool)
    for image in range(2):
        ranked = []
        for m in (2 * image, 2 * image + 1):
            for y in range(3):
                for x in range(4):
                    kept[m, y, x] = table[m, 0, y, x] > 0
                    if table[m, 0, y, x] == 0 and table[m, 5, y, x] < np.float32(0.6):
                        ranked.append((-log(shares[m, 0, y, x]), (m, y, x)))
        count = max(int(kept[2 * image : 2 * image + 2].sum()), 2)
        assert count < len(ranked)
        for _, place in sorted(ranked, reverse=True)[:count]:
            kept[place] = True
    objects = kept & (table[:, 0] > 0)
    weights = np.ones((4, 3, 4))
    if weighted:
        weights = np.where(objects, 0.5 * kept.sum() / objects.sum(), 0)
        weights[~objects] = 0.5 * kept.sum() / (kept.sum() - objects.sum())
    class_loss, box_loss = 0.0, 0.0
    wanted = np.zeros((4, 4, 3, 4))
    for m, y, x in zip(*kept.nonzero(), strict=True):
        label = int(table[m, 0, y, x])
        class_loss -= log(shares[m, label, y, x]) * weights[m, y, x] / kept.sum()
        if label:
            found = deltas.detach().numpy()[m, :, y, x]
            if bounded:
                most = np.array([0.5, 0.5, log(2), log(2)]) / STDS
                found = np.clip(found, -most, most)
            difference = found - wanted_deltas(table, m, y, x)
            box_loss += sum(map(smooth, difference)) / (4 * objects.sum())
            wanted[m, :, y, x] = 0.5 * np.clip(difference, -1, 1) / (4 * objects.sum())
    expected = [class_loss + 0.5 * box_loss, 0.5 * box_loss]
    np.testing.assert_allclose(top.detach().flatten(), expected)
    top[0, 0, 0, 0].backward()
    assert scores.grad is not None
    assert deltas.grad is not None
    np.testing.assert_allclose(deltas.grad, wanted, atol=1e-12)
    hot = np.eye(3)[table[:, 0].astype(int)].transpose(0, 3, 1, 2)
    factor = (weights * kept / kept.sum())[:, None]
    np.testing.assert_allclose(scores.grad, (shares - hot) * factor, atol=1e-12)


@pytest.mark.parametrize("kind", ["random", "mixture", "bootstrap"])
def test_drawn_positions(kind: str) -> None:
    maps = target_maps()
    text = (
        f"detection_group_loss_param {{ cls_num: 3 {FIELD_TEXT} bg_threshold: 0.6 bg_multiple: 2 "
        f"batch_size: 9 neg_mining_type: '{kind}' }}"
    )
    scores = values((4, 3, 3, 4), 1).requires_grad_(True)
    (top,) = run("DetectionGroupLoss", text, scores, values((4, 4, 3, 4), 2), maps)
    top[0, 0, 0, 0].backward()
    assert scores.grad is not None
    used = scores.grad.abs().sum(1) > 0
    objects = used & (maps[:, 0] > 0)
    assert not (used & (maps[:, 0] == 0) & (maps[:, 5] >= 0.6)).any()
    assert used.reshape(2, -1).sum(1).tolist() == [9, 9]
    assert objects.reshape(2, -1).sum(1).tolist() == [3, 3]


def test_group_accuracy() -> None:
    scores, deltas, maps = values((4, 3, 3, 4), 1), values((4, 4, 3, 4), 2), target_maps()
    text = (
        f"detection_group_accuracy_param {{ cls_num: 3 {FIELD_TEXT} bg_threshold: 0.6 "
        f"field_xyr: 2 field_whr: 2 }} {NORMALISED} }}"
    )
    shares, overlap = run("DetectionGroupAccuracy", text, scores, deltas, maps, tops=2)
    table, right, right_objects, shared = maps.numpy(), [], [], []
    for m in range(4):
        for y in range(3):
            for x in range(4):
                label, cx, cy, w, h, covered = table[m, :, y, x]
                if label == 0 and covered >= np.float32(0.6):
                    continue
                right.append(int(scores[m, :, y, x].argmax()) == label)
                if label == 0:
                    continue
                right_objects.append(right[-1])
                d = np.clip(
                    deltas[m, :, y, x].numpy() * STDS,
                    [-0.5] * 2 + [-log(2)] * 2,
                    [0.5] * 2 + [log(2)] * 2,
                )
                wide, high = FIELDS[m % 2]
                bw, bh = wide * np.exp(d[2]), high * np.exp(d[3])
                bx = d[0] * wide + (x + 0.5) * 8 - bw / 2
                by = d[1] * high + (y + 0.5) * 8 - bh / 2
                gx, gy = cx - w / 2, cy - h / 2
                sides = [
                    min(bx + bw - 1, gx + w - 1) - max(bx, gx) + 1,
                    min(by + bh - 1, gy + h - 1) - max(by, gy) + 1,
                ]
                common = sides[0] * sides[1] if min(sides) > 0 else 0
                shared.append(common / (bw * bh + w * h - common))
    expected = [np.mean(right), np.mean(right_objects)]
    np.testing.assert_allclose(shares.flatten(), expected, rtol=1e-6)
    assert float(overlap) == pytest.approx(np.mean(shared))


MSCNN = "cls_num: 3 field_w: 16 field_h: 12 downsample_rate: 8 field_xyr: 2 field_whr: 2"


@pytest.mark.parametrize("smoothed", [True, False])
@pytest.mark.parametrize("weights", ["", "iou_weighted: true", "pos_neg_weighted: true"])
def test_loss_of_ms_cnn(weights: str, smoothed: bool) -> None:
    x, maps = values((2, 7, 3, 4), 1).requires_grad_(True), target_maps()[::2]
    text = (
        f"detection_loss_param {{ {MSCNN} lambda: 2 bg_threshold: 0.6 bg_multiple: 1 "
        f"sample_mode: 'bootstrap' bb_smooth: {str(smoothed).lower()} {weights} }} {NORMALISED} }}"
    )
    (top,) = run("DetectionLoss", text, x, maps)
    table, found = maps.numpy(), x.detach().numpy()
    shares = x.detach()[:, :3].softmax(1).numpy()
    kept = np.zeros((2, 3, 4), bool)
    for n in range(2):
        free = [p for p in np.ndindex(3, 4) if table[n, 0][p] == 0 and table[n, 5][p] < 0.6]
        for k in (1, 2):
            count = max(4, int((table[n, 0] == k).sum()))
            for place in sorted(free, key=lambda p: -found[n, k][p])[:count]:
                kept[n][place] = True
    objects = table[:, 0] > 0
    factor = np.ones((2, 3, 4))
    if "iou" in weights:
        factor = np.where(objects, table[:, 5], 1)
    if "neg" in weights:
        total = objects.sum() + kept.sum()
        factor = np.where(objects, 0.5 * total / objects.sum(), 0.5 * total / kept.sum())
    class_loss, box_loss = 0.0, 0.0
    most = np.array([0.5, 0.5, log(2), log(2)]) / STDS
    for n, i, j in zip(*(objects | kept).nonzero(), strict=True):
        label = int(table[n, 0, i, j])
        class_loss -= log(shares[n, label, i, j]) * factor[n, i, j] / (objects | kept).sum()
        if label:
            d = np.clip(found[n, 3:, i, j], -most, most) - wanted_deltas(table[n:], 0, i, j)
            box_loss += sum(smooth(v) if smoothed else v * v / 2 for v in d) / (4 * objects.sum())
    expected = [class_loss + 2 * box_loss, 2 * box_loss]
    np.testing.assert_allclose(top.detach().flatten(), expected)


@pytest.mark.parametrize("mode", ["random", "mixture", "all"])
def test_background_that_ms_cnn_draws(mode: str) -> None:
    x, maps = values((2, 7, 3, 4), 1).requires_grad_(True), target_maps()[::2]
    drawing = f"bg_threshold: 0.6 bg_multiple: 1 sample_mode: '{mode}'"
    text = f"detection_loss_param {{ {MSCNN} {drawing} }}"
    run("DetectionLoss", text, x, maps)[0][0, 0, 0, 0].backward()
    assert x.grad is not None
    used = x.grad[:, :3].abs().sum(1) > 0
    free = (maps[:, 0] == 0) & (maps[:, 5] < 0.6)
    assert used[maps[:, 0] > 0].all()
    assert not (used & (maps[:, 0] == 0) & ~free).any()
    drawn = int((used & free).sum())
    assert drawn == int(free.sum()) if mode == "all" else 0 < drawn < int(free.sum())


def test_accuracy_of_ms_cnn() -> None:
    x, maps = values((1, 7, 3, 4), 1), target_maps()[:1]
    text = f"detection_accuracy_param {{ {MSCNN} bg_threshold: 0.6 }}"
    shares, overlap = run("DetectionAccuracy", text, x, maps, tops=2)
    right, shared = {}, []
    for i, j in np.ndindex(3, 4):
        label, cx, cy, w, h, covered = maps[0, :, i, j].tolist()
        if label or covered < 0.6:
            right[i, j] = int(x[0, :3, i, j].argmax()) == label
        if label:
            d = x[0, 3:, i, j].numpy()
            d = np.array([*np.clip(d[:2], -0.5, 0.5), *np.clip(d[2:], -log(2), log(2))])
            bw, bh = 16 * np.exp(d[2]), 12 * np.exp(d[3])
            bx, by = d[0] * 16 + (j + 0.5) * 8 - bw / 2, d[1] * 12 + (i + 0.5) * 8 - bh / 2
            wide = min(bx + bw, cx + w / 2) - max(bx, cx - w / 2)
            high = min(by + bh, cy + h / 2) - max(by, cy - h / 2)
            common = max(wide, 0) * max(high, 0)
            shared.append(common / (bw * bh + w * h - common))
    own = [value for (i, j), value in right.items() if maps[0, 0, i, j]]
    expected = [np.mean(list(right.values())), np.mean(own)]
    np.testing.assert_allclose(shares.flatten(), expected, rtol=1e-6)
    assert float(overlap) == pytest.approx(np.mean(shared))


OBJECTS = torch.tensor(
    [
        [0, 10.0, 12, 40, 50, 1, 0],
        [0, 60, 20, 99, 60, 2, 1],
        [1, 5, 60, 30, 99, 2, 0],
        [-1, 0, 0, 0, 0, 0, 0],
    ],
    dtype=torch.float64,
)


def regions(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    chosen = OBJECTS[torch.randint(3, (count,), generator=generator), :5]
    moved = chosen + torch.randn(count, 5, generator=generator, dtype=torch.float64) * 12
    moved[:, 0] = chosen[:, 0]
    moved[:, 3:] = torch.maximum(moved[:, 3:], moved[:, 1:3] + 3)
    return moved


def overlap_of(a: Sequence[float], b: Sequence[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    if min(wide, high) <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def targets(text: str, count: int = 200, aware: bool = True, tops: int = 7) -> list[Any]:
    own = f"proposal_target_param {{ cls_num: 3 img_width: 120 img_height: 110 {text} }}"
    aware_text = f"{NORMALISED} cls_aware: {str(aware).lower()} }}"
    return run("ProposalTarget", f"{own} {aware_text}", regions(count), OBJECTS, tops=tops)


@pytest.mark.parametrize("aware", [True, False])
def test_proposal_targets(aware: bool) -> None:
    limits = "batch_size: 40 fg_fraction: 0.25 fg_thr: 0.5 bg_thr_hg: 0.5 bg_thr_lw: 0.1"
    found = [
        top[:, :, 0, 0].numpy() for top in targets(limits + " iou_weighted: true", aware=aware)
    ]
    rows, classes, moves, inside, outside, matched, weights = found
    assert len(rows) == 40
    assert (classes[:10] > 0).all()
    assert not classes[10:].any()
    for k, row in enumerate(rows):
        shared = [
            overlap_of(row[1:], box[1:5].tolist()) if row[0] == box[0] else -1 for box in OBJECTS
        ]
        best = int(np.argmax(shared))
        assert best != 1 or shared[best] < 0.5, "the second object is ignored"
        if shared[best] < 0.5:
            assert classes[k] == 0
            assert not moves[k].any()
            assert not matched[k].any()
            continue
        assert classes[k] == OBJECTS[best, 5]
        np.testing.assert_allclose(matched[k], [classes[k, 0], *OBJECTS[best, 1:5], shared[best]])
        size = row[3:] - row[1:3] + 1
        true = OBJECTS[best, 1:5].numpy()
        true_size = true[2:] - true[:2] + 1
        centres = (true[:2] + true_size / 2 - row[1:3] - size / 2) / size
        expected = np.array([*centres, *np.log(true_size / size)]) / STDS
        at = 4 * int(classes[k, 0]) if aware else 4
        np.testing.assert_allclose(moves[k, at : at + 4], expected, rtol=1e-6, atol=1e-9)
        assert inside[k].sum() == inside[k, at : at + 4].sum() == 4
    np.testing.assert_array_equal(inside, outside)
    assert weights[:10].sum() == pytest.approx(0.25 * 40)
    assert weights[10:].sum() == pytest.approx(0.75 * 40)
    np.testing.assert_allclose(weights[:10] / weights[0], matched[:10, 5:] / matched[0, 5])


def test_all_proposals_and_none() -> None:
    rows, classes, *_ = targets("batch_size: -1 bg_thr_lw: 0.1 append_gtbox: false", tops=6)
    assert 10 < len(rows) < 200
    assert len(classes) == len(rows)
    rows, classes, *_ = targets("batch_size: -1 append_gtbox: false bg_thr_lw: 0.49 fg_thr: 2", 3)
    assert rows.shape == (1, 5, 1, 1)
    assert not classes.any()
    box = rows[0, 1:, 0, 0]
    assert (box[2:] - box[:2] >= 31).all()


def test_accuracy_of_regressed_boxes() -> None:
    rows = regions(6)
    matched = torch.zeros(6, 6, dtype=torch.float64)
    for k, (label, other) in enumerate([(1, 0), (2, 2), (0, 0), (2, 2), (1, 0), (1, 0)]):
        matched[k] = torch.cat(
            [torch.tensor([float(label)]), OBJECTS[other, 1:5], torch.ones(1) * 0.6]
        )
    matched[5, 5] = 0.99
    moves = values((6, 12), 4) * 0.2
    after, before = run("BboxAccuracy", f"{NORMALISED} }}", moves, rows, matched, tops=2)
    found: list[list[float]] = [[], []]
    for k in (0, 1, 3, 4):
        x1, y1, x2, y2 = rows[k, 1:].tolist()
        at = 4 * int(matched[k, 0])
        dx, dy, dw, dh = moves[k, at : at + 4].numpy() * STDS
        w, h = (x2 - x1 + 1) * np.exp(dw), (y2 - y1 + 1) * np.exp(dh)
        left = dx * (x2 - x1 + 1) + x1 + (x2 - x1 + 1) / 2 - w / 2
        top = dy * (y2 - y1 + 1) + y1 + (y2 - y1 + 1) / 2 - h / 2
        true = matched[k, 1:5].tolist()
        found[0].append(overlap_of([left, top, left + w - 1, top + h - 1], true))
        found[1].append(overlap_of([x1, y1, x2, y2], true))
    assert float(after) == pytest.approx(np.mean(found[0]))
    assert float(before) == pytest.approx(np.mean(found[1]))
    assert sqrt(float(after)) > 0


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("DetectionGroupLoss", "detection_group_loss_param { field_w: 3 }", "1 field_w and 0"),
        (
            "DetectionGroupLoss",
            "detection_group_loss_param { field_w: 3 field_h: 3 neg_mining_type: 'hard' }",
            "'hard' is none of random, bootstrap, mixture",
        ),
        ("ProposalTarget", "proposal_target_param { cls_num: 1 }", "expected two classes"),
        (
            "ProposalTarget",
            "proposal_target_param { cls_num: 3 fg_thr: 0.4 }",
            "fg_thr is 0.4, below bg_thr_hg 0.5",
        ),
    ],
)
def test_settings_are_refused(kind: str, text: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        made(kind, text, (2, 5), (2, 7), (2, 6))
