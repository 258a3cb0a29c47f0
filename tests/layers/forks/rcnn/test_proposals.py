"""Proposals and their targets against loops over anchors and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from caffecompat.layers import Layer
from caffecompat.layers.forks.rcnn._anchors import base_anchors, round_half_up
from caffecompat.layers.forks.rcnn._pixel_boxes import decode, encode, suppress
from tests.layers.messages import message
from tests.layers.single import build

Box = Sequence[float]

PROPOSAL = "Python (ProposalLayer of py-faster-rcnn)"
ANCHORS = "Python (AnchorTargetLayer of py-faster-rcnn)"
TARGETS = "Python (ProposalTargetLayer of py-faster-rcnn)"


def built(type_name: str, text: str, *bottoms: Tensor, tops: int, phase: str = "TRAIN") -> Layer:
    return build(message(type_name, text, tops), [tuple(b.shape) for b in bottoms], phase)


def python(options: str, layer: str = "ProposalLayer") -> str:
    return (
        f'python_param {{ module: "rpn.proposal_layer" layer: "{layer}" param_str: "{options}" }}'
    )


def overlap(a: Box, b: Box) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0]) + 1
    high = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def kept_by_loops(boxes: Sequence[Box], threshold: float, limit: int) -> list[int]:
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if all(overlap(boxes[k], box) <= threshold for k in kept):
            kept.append(i)
    return kept[:limit]


def test_anchors_are_those_of_py_faster_rcnn() -> None:
    assert base_anchors(16, (0.5, 1, 2), (8, 16, 32)) == [
        [-84, -40, 99, 55],
        [-176, -88, 191, 103],
        [-360, -184, 375, 199],
        [-56, -56, 71, 71],
        [-120, -120, 135, 135],
        [-248, -248, 263, 263],
        [-36, -80, 51, 95],
        [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]


def test_halves_of_anchor_sizes() -> None:
    # The square root is 2.5: numpy rounds it to 2, C to 3.
    assert base_anchors(5, (4,), (1,))[0] == [1.5, -1.5, 2.5, 5.5]
    assert base_anchors(5, (4,), (1,), round_half_up)[0] == [1.0, -3.5, 3.0, 7.5]


@pytest.mark.parametrize("limit", [0, 40])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppression(threshold: float, limit: int) -> None:
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(1300, 2, generator=generator, dtype=torch.float64) * 60
    boxes = torch.cat([low, low + torch.rand(1300, 2, generator=generator) * 30], 1)
    expected = kept_by_loops(boxes.tolist(), threshold, limit or 1300)
    assert suppress(boxes, threshold, limit).tolist() == expected
    assert suppress(boxes[:0], threshold).tolist() == []


def test_decoding_reverses_encoding_but_for_a_pixel() -> None:
    boxes = torch.tensor([[3.0, 4, 20, 30], [0, 0, 9, 9]], dtype=torch.float64)
    targets = torch.tensor([[5.0, 1, 33, 12], [2, 2, 4, 7]], dtype=torch.float64)
    deltas = encode(boxes, targets)
    torch.testing.assert_close(decode(boxes, deltas, inclusive=True), targets)
    torch.testing.assert_close(decode(boxes, deltas)[:, 2:], targets[:, 2:] + 1)
    expected = [9.5 / 18 * 0 + (5 + 14.5 - 3 - 9) / 18, (1 + 6 - 4 - 13.5) / 27]
    assert deltas[0].tolist() == pytest.approx([*expected, log(29 / 18), log(12 / 27)])


def proposals_by_loops(
    scores: np.ndarray,
    deltas: np.ndarray,
    info: Box,
    anchors: Sequence[Box],
    stride: int,
    least: float,
    drops: bool,
) -> list[tuple[float, list[float]]]:
    """All boxes of the image with their scores, the best first."""
    count, (height, width) = len(anchors), scores.shape[2:]
    found = []
    for y in range(height):
        for x in range(width):
            for a in range(count):
                x1, y1, x2, y2 = np.array(anchors[a]) + stride * np.array([x, y, x, y])
                dx, dy, dw, dh = deltas[0, 4 * a : 4 * a + 4, y, x]
                wide, high = x2 - x1 + 1, y2 - y1 + 1
                cx, cy = dx * wide + x1 + wide / 2, dy * high + y1 + high / 2
                new_wide, new_high = exp(dw) * wide, exp(dh) * high
                corners = [cx - new_wide / 2, cy - new_high / 2]
                corners += [cx + new_wide / 2, cy + new_high / 2]
                most = [info[1] - 1, info[0] - 1] * 2
                box = [max(min(c, m), 0.0) for c, m in zip(corners, most, strict=True)]
                sides = (box[2] - box[0] + 1, box[3] - box[1] + 1)
                large = sides[0] >= least * info[-1] and sides[1] >= least * info[2]
                score = float(scores[0, count + a, y, x])
                if large or not drops:
                    found.append((score if large else 0.0, box))
    return sorted(found, key=lambda pair: -pair[0])


def maps(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(1, 2 * count, height, width, generator=generator, dtype=torch.float64)
    deltas = torch.randn(1, 4 * count, height, width, generator=generator, dtype=torch.float64)
    return scores, deltas * 0.6


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_proposal_layer_of_py_faster_rcnn(phase: str) -> None:
    scores, deltas = maps(6, 5, 7)
    info = torch.tensor([[75.0, 110, 1.5]], dtype=torch.float64)
    text = python(
        "'feat_stride': 16\\n'scales': !!python/tuple [1, 2]\\n'RPN_MIN_SIZE': 9\\n"
        "'RPN_PRE_NMS_TOP_N': 100\\n'RPN_POST_NMS_TOP_N': 30"
    )
    layer = built(PROPOSAL, text, scores, deltas, info, tops=2, phase=phase)
    anchors = base_anchors(16, (0.5, 1, 2), (1, 2))
    numbers = info[0].tolist()
    made = proposals_by_loops(scores.numpy(), deltas.numpy(), numbers, anchors, 16, 9, True)[:100]
    kept = kept_by_loops([box for _, box in made], 0.7, 30)
    rows, found = layer.forward(scores, deltas, info)
    assert 5 < len(kept) <= 30
    np.testing.assert_allclose(rows[:, 1:].numpy(), [made[k][1] for k in kept])
    np.testing.assert_allclose(found[:, 0].numpy(), [made[k][0] for k in kept])
    assert (rows[:, 0] == 0).all()
    assert [tuple(top.shape) for top in layer.infer(scores, deltas, info)] == [(1, 5), (1, 1)]


def test_defaults_of_the_phases() -> None:
    scores, deltas = maps(9, 2, 3)
    info = torch.tensor([[40.0, 50, 1]])
    made = {
        phase: built(
            PROPOSAL, python("'feat_stride': 16"), scores, deltas, info, tops=1, phase=phase
        )
        for phase in ("TRAIN", "TEST")
    }
    facts = {phase: (layer.made.before, layer.made.after) for phase, layer in made.items()}  # type: ignore[attr-defined]
    assert facts == {"TRAIN": (12000, 2000), "TEST": (6000, 300)}


@pytest.mark.parametrize("numbers", [[75.0, 110, 1.5], [75.0, 110, 1.5, 0.9]])
def test_proposal_of_pvanet_keeps_small_boxes_with_score_zero(numbers: list[float]) -> None:
    scores, deltas = maps(2, 4, 5)
    info = torch.tensor([numbers], dtype=torch.float64)
    text = (
        "proposal_param { ratio: 0.5 ratio: 2 scale: 1 feat_stride: 16 min_size: 14 "
        "pre_nms_topn: 40 post_nms_topn: 35 nms_thresh: 0.6 }"
    )
    name = "Proposal (PVANet, mini-caffe)"
    layer = built(name, text, scores, deltas, info, tops=2)
    anchors = base_anchors(16, (0.5, 2), (1,), round_half_up)
    made = proposals_by_loops(scores.numpy(), deltas.numpy(), numbers, anchors, 16, 14, False)
    assert 0 < sum(score == 0 for score, _ in made) < len(made)
    kept = kept_by_loops([box for _, box in made], np.float32(0.6), 35)
    rows, found = layer.forward(scores, deltas, info)
    np.testing.assert_allclose(rows[:, 1:].numpy(), [made[k][1] for k in kept])
    np.testing.assert_allclose(found.numpy(), [made[k][0] for k in kept])
    assert [tuple(top.shape) for top in layer.infer(scores, deltas, info)] == [(35, 5), (35,)]


def test_proposal_of_synopsys() -> None:
    scores, deltas = maps(3, 4, 5)
    info = torch.tensor([[75.0, 110, 1.5]], dtype=torch.float64)
    text = "proposal_param { anchor_scale: 1 max_rois: 9 rpn_min_size: 20 pre_nms_topn: 50 }"
    layer = built("Proposal (Synopsys)", text, scores, deltas, info, tops=2)
    anchors = base_anchors(16, (0.5, 1, 2), (32,))
    numbers = info[0].tolist()
    made = proposals_by_loops(scores.numpy(), deltas.numpy(), numbers, anchors, 16, 20, True)[:50]
    kept = kept_by_loops([box for _, box in made], float(np.float32(0.7)), 9)
    rows, found = layer.forward(scores, deltas, info)
    np.testing.assert_allclose(rows[:, 1:].numpy(), [made[k][1] for k in kept])
    assert found.shape == (len(kept), 1)


@pytest.mark.parametrize(
    ("text", "fork"),
    [
        ("proposal_param { ratio: 1 scale: 8 }", "PVANet"),
        ("proposal_param { feat_stride: 16 max_rois: 300 }", "Synopsys"),
        ("proposal_param { feat_stride: 16 }", "Synopsys"),
    ],
)
def test_fields_tell_the_fork(text: str, fork: str) -> None:
    from caffecompat.layers import catalogue

    assert fork in catalogue.choose(message("Proposal", text)).fork


def anchor_targets(objects: Tensor, options: str = "", seed: int = 0) -> tuple[list[Tensor], Any]:
    scores = torch.zeros(1, 18, 6, 8, dtype=torch.float64)
    info = torch.tensor([[96.0, 128, 1]], dtype=torch.float64)
    text = python(f"'feat_stride': 16\\n'scales': [1, 2, 4]{options}", "AnchorTargetLayer")
    layer = built(ANCHORS, text, scores, objects, info, tops=4)
    return list(layer.forward(scores, objects, info)), layer


OBJECTS = torch.tensor(
    [[10.0, 12, 40, 50, 1], [64, 20, 100, 60, 2], [5, 60, 20, 80, 3]], dtype=torch.float64
)


def test_anchor_targets() -> None:
    (labels, targets, inside, outside), _ = anchor_targets(OBJECTS)
    assert labels.shape == (1, 1, 9 * 6, 8)
    assert targets.shape == inside.shape == outside.shape == (1, 36, 6, 8)
    anchors = base_anchors(16, (0.5, 1, 2), (1, 2, 4))
    every = {
        (a, y, x): [c + 16 * s for c, s in zip(anchors[a], (x, y, x, y), strict=True)]
        for a in range(9)
        for y in range(6)
        for x in range(8)
    }
    within = {
        key: [overlap(box, row) for row in OBJECTS.tolist()]
        for key, box in every.items()
        if box[0] >= 0 and box[1] >= 0 and box[2] < 128 and box[3] < 96
    }
    best = [max(shared[g] for shared in within.values()) for g in range(3)]
    wanted = {}
    for key, shared in within.items():
        wanted[key] = 0 if max(shared) < 0.3 else -1
        if max(shared) >= 0.7 or any(s == b for s, b in zip(shared, best, strict=True)):
            wanted[key] = 1
    positives = sum(value == 1 for value in wanted.values())
    negatives = sum(value == 0 for value in wanted.values())
    assert 0 < positives < 128
    assert positives + negatives < 256
    for (a, y, x), box in every.items():
        label = wanted.get((a, y, x), -1)
        assert labels[0, 0, a * 6 + y, x] == label
        assert inside[0, 4 * a, y, x] == (label == 1)
        share = 1 / (positives + negatives) if label >= 0 else 0
        assert outside[0, 4 * a + 3, y, x] == pytest.approx(share)
        if (a, y, x) in within:
            nearest = OBJECTS[int(np.argmax(within[a, y, x])), :4].tolist()
            wide, high = box[2] - box[0] + 1, box[3] - box[1] + 1
            expected = [
                ((nearest[0] + nearest[2] + 1) - (box[0] + box[2] + 1)) / 2 / wide,
                ((nearest[1] + nearest[3] + 1) - (box[1] + box[3] + 1)) / 2 / high,
                log((nearest[2] - nearest[0] + 1) / wide),
                log((nearest[3] - nearest[1] + 1) / high),
            ]
            assert targets[0, 4 * a : 4 * a + 4, y, x].tolist() == pytest.approx(expected)
        else:
            assert (targets[0, 4 * a : 4 * a + 4, y, x] == 0).all()


def test_anchors_are_drawn_anew_in_each_pass() -> None:
    (labels, *_), layer = anchor_targets(
        OBJECTS, "\\n'RPN_BATCHSIZE': 20\\n'RPN_POSITIVE_OVERLAP': 0.4"
    )
    assert [(labels == value).sum() for value in (1, 0)] == [10, 10]
    info = torch.tensor([[96.0, 128, 1]], dtype=torch.float64)
    scores = torch.zeros(1, 18, 6, 8, dtype=torch.float64)
    assert torch.equal(layer.forward(scores, OBJECTS, info)[0], labels)
    layer.noise.position.fill_(1)
    assert not torch.equal(layer.forward(scores, OBJECTS, info)[0], labels)


def test_an_image_without_objects_is_background() -> None:
    (labels, targets, inside, outside), _ = anchor_targets(OBJECTS[:0])
    assert (labels != 1).all()
    assert (labels == 0).any()
    assert not targets.any()
    assert not inside.any()
    assert outside.any()


def test_weight_of_objects() -> None:
    (labels, _, _, outside), _ = anchor_targets(OBJECTS, "\\n'RPN_POSITIVE_WEIGHT': 0.25")
    sums = [outside[:, ::4].flatten(1)[labels.flatten(1) == value].sum() for value in (1, 0)]
    assert [float(total) for total in sums] == pytest.approx([0.25, 0.75])


def proposal_targets(regions: Tensor, objects: Tensor, options: str = "") -> list[Tensor]:
    text = python(f"'num_classes': 4{options}", "ProposalTargetLayer")
    return list(built(TARGETS, text, regions, objects, tops=5).forward(regions, objects))


def some_regions(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    rows = OBJECTS[torch.randint(3, (count,), generator=generator), :4]
    moved = rows + torch.randn(count, 4, generator=generator, dtype=torch.float64) * 9
    moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2])
    return torch.nn.functional.pad(moved, (1, 0))


def test_proposal_targets() -> None:
    rows, classes, targets, inside, outside = proposal_targets(some_regions(200), OBJECTS)
    assert rows.shape == (128, 5)
    assert classes.shape == (128,)
    assert targets.shape == inside.shape == outside.shape == (128, 16)
    assert (classes > 0).sum() == 32
    assert (classes[:32] > 0).all()
    assert len({tuple(row) for row in rows.tolist()}) == 128
    for row, number, target, weight in zip(
        rows.tolist(), classes.tolist(), targets, inside, strict=True
    ):
        shared = [overlap(row[1:], box) for box in OBJECTS.tolist()]
        nearest = int(np.argmax(shared))
        assert number == (OBJECTS[nearest, 4] if max(shared) >= 0.5 else 0)
        wanted = torch.zeros(16, dtype=torch.float64)
        if number:
            pair = torch.tensor([row[1:]], dtype=torch.float64), OBJECTS[nearest : nearest + 1, :4]
            at = 4 * int(number)
            wanted[at : at + 4] = encode(*pair)[0] / torch.tensor([0.1, 0.1, 0.2, 0.2])
            assert weight.nonzero().flatten().tolist() == [at, at + 1, at + 2, at + 3]
        else:
            assert not weight.any()
        torch.testing.assert_close(target, wanted, rtol=1e-5, atol=1e-7)
    assert torch.equal(outside, inside)


def test_few_regions_and_no_objects() -> None:
    rows, classes, *_ = proposal_targets(some_regions(2)[:0], OBJECTS)
    assert sorted(rows[:, 1:].tolist()) == sorted(OBJECTS[:, :4].tolist())
    assert sorted(classes.tolist()) == [1, 2, 3]
    rows, classes, targets, *_ = proposal_targets(some_regions(9), OBJECTS[:0])
    assert len(rows) == 9
    assert not classes.any()
    assert not targets.any()


def test_raw_targets() -> None:
    options = "\\n'BBOX_NORMALIZE_TARGETS_PRECOMPUTED': false\\n'FG_FRACTION': 1"
    rows, classes, targets, *_ = proposal_targets(some_regions(60), OBJECTS, options)
    first = int(classes[0])
    shared = [overlap(rows[0, 1:].tolist(), box) for box in OBJECTS.tolist()]
    expected = encode(rows[:1, 1:], OBJECTS[[int(np.argmax(shared))], :4])
    torch.testing.assert_close(targets[:1, 4 * first : 4 * first + 4], expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("'scales': [8]", "param_str has no feat_stride; give it as \"'feat_stride': value\""),
        ("'feat_stride': many", "feat_stride is 'many', expected a number"),
        ("feat_stride 16", "cannot read param_str: it has 'feat_stride 16' where a key"),
        ("'feat_stride': 16\\n'scales': [a]", "scales is \\['a'\\], expected a list of numbers"),
    ],
)
def test_param_str_is_refused(options: str, sentence: str) -> None:
    scores, deltas = maps(9, 2, 3)
    with pytest.raises(LayerError, match=sentence):
        built(PROPOSAL, python(options), scores, deltas, torch.zeros(1, 3), tops=1)


def test_maps_are_refused() -> None:
    scores, deltas = maps(4, 2, 3)
    info = torch.zeros(1, 3)
    layer = built(PROPOSAL, python("'feat_stride': 16"), scores, deltas, info, tops=1)
    with pytest.raises(LayerError, match="9 anchors need 18 and 36 channels"):
        layer.forward(scores, deltas, info)
    layer = built(TARGETS, python("'num_classes': 3"), info, info, tops=5)
    with pytest.raises(LayerError, match="an object has class 3, but num_classes is 3"):
        layer.forward(some_regions(3), OBJECTS)
