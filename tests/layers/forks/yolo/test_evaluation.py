"""YOLO's EvalDetection layers against loops over cells, boxes and objects."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.forks.yolo.values import overlap, sigmoid, values
from tests.layers.messages import made, run
from tests.net.nets import net

Detection = tuple[int, float, list[float]]  # class, score, box
Object = tuple[int, list[float], bool]  # class, box, difficult

SIDE, ANCHORS, CLASSES = 3, 2, 3
BIASES = [1.2, 1.0, 0.8, 1.9]
TEXT = (
    f"eval_detection_param {{ side: {SIDE} num_class: {CLASSES} num_object: {ANCHORS} "
    f"threshold: 0.3 nms: 0.4 {' '.join(f'biases: {b}' for b in BIASES)} score_type: "
)
# Rows [image, class, instance, xmin, ymin, xmax, ymax, difficult].
ROWS = torch.tensor(
    [
        [0, 1, 0, 0.1, 0.1, 0.5, 0.6, 0],
        [0, 2, 0, 0.4, 0.5, 0.9, 0.9, 0],
        [0, 1, 1, 0.3, 0.2, 0.8, 0.7, 0],
        [-1, -1, -1, -1, -1, -1, -1, -1],
        [1, 3, 0, 0.2, 0.3, 0.7, 0.9, 0],
    ],
    dtype=torch.float64,
).reshape(1, 1, 5, 8)


def suppressed(found: list[Detection], threshold: float, by_class: bool) -> list[Detection]:
    kept: list[Detection] = []
    for one in sorted(found, key=lambda d: -d[1]):
        rivals = [k for k in kept if k[0] == one[0] or not by_class]
        if all(overlap(one[2], k[2]) < threshold for k in rivals):
            kept.append(one)
    return kept


def row_of(found: list[Detection], objects: list[Object], room: int, misses: bool) -> np.ndarray:
    counts = [sum(o[0] == c and not o[2] for o in objects) for c in range(CLASSES)]
    rows: list[list[float]] = []
    for label in range(CLASSES):
        truth = [o for o in objects if o[0] == label]
        taken = set()
        for _, score, box in sorted((d for d in found if d[0] == label), key=lambda d: -d[1]):
            verdict = [0, 1] if not truth else [0, int(misses)]
            if truth:
                shared = [overlap(box, o[1]) for o in truth]
                best = int(np.argmax(shared))
                if shared[best] >= np.float32(0.3):
                    verdict = [0, 0] if truth[best][2] else [best not in taken, best in taken]
                    taken.add(best)
            rows.append([label, score, *verdict])
    table = np.zeros((room, 4))
    table[: len(rows)] = np.array(rows).reshape(-1, 4)[:room]
    return np.concatenate([counts, table.ravel()])


def objects_of(image: int) -> list[Object]:
    objects = []
    for row in ROWS[0, 0].tolist():
        if row[0] == image:
            box = [(row[3] + row[5]) / 2, (row[4] + row[6]) / 2, row[5] - row[3], row[6] - row[4]]
            objects.append((int(row[1]) - 1, box, False))
    return objects


def region_cells(x: Tensor, image: int) -> list[tuple[float, np.ndarray, list[float]]]:
    """Objectness, class shares and box of each cell and anchor."""
    cells = []
    table = x.numpy()[image].reshape(ANCHORS, 5 + CLASSES, SIDE, SIDE)
    for j in range(SIDE):
        for i in range(SIDE):
            for a in range(ANCHORS):
                tx, ty, tw, th, o, *scores = table[a, :, j, i]
                box = [(i + sigmoid(tx)) / SIDE, (j + sigmoid(ty)) / SIDE]
                box += [exp(tw) * BIASES[2 * a] / SIDE, exp(th) * BIASES[2 * a + 1] / SIDE]
                cells.append((sigmoid(o), np.exp(scores) / np.exp(scores).sum(), box))
    return cells


def score(kind: str, certain: float, share: float) -> float:
    return {"OBJ": certain, "PROB": share, "MULTIPLY": certain * share}[kind]


def evaluate(dialect: str, text: str, *bottoms: Tensor) -> np.ndarray:
    """The top of one layer of the dialect."""
    (top,) = run(f"EvalDetection ({dialect})", text, *bottoms)
    return top.numpy()


@pytest.mark.parametrize("kind", ["OBJ", "PROB", "MULTIPLY"])
@pytest.mark.parametrize("dialect", ["YOLO9000", "Intel"])
def test_detections_of_yolo_v2(dialect: str, kind: str) -> None:
    x = 2 * values((2, ANCHORS * (5 + CLASSES), SIDE, SIDE), 3)
    top = evaluate(dialect, f"{TEXT} {kind} }}", x, ROWS)
    room = SIDE * SIDE * ANCHORS
    for image in range(2):
        found: list[Detection] = []
        for certain, shares, box in region_cells(x, image):
            if dialect == "Intel":
                best = int(np.argmax(shares))
                found.append((best, score(kind, certain, shares[best]), box))
            elif certain >= 0.005:
                found += [
                    (c, score(kind, certain, share), box)
                    for c, share in enumerate(shares)
                    if certain * share > 0.005
                ]
        kept = suppressed(found, 0.4, by_class=dialect == "YOLO9000")
        kept = [d for d in kept if d[1] >= 0.005]
        wanted = row_of(kept, objects_of(image), room, misses=False)
        np.testing.assert_allclose(top[image], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nms", [-1, 0.4])
@pytest.mark.parametrize("plain", ["true", "false"])
def test_detections_of_yolo_v1(plain: str, nms: float) -> None:
    cells = SIDE * SIDE
    x = values((2, cells * (CLASSES + 5 * ANCHORS)), 4).abs()
    truth = [[(0, 4, False), (0, 2, True), (1, 7, False)], [(2, 1, True)]]
    labels = torch.zeros(2, 7 * cells, dtype=torch.float64)
    boxes = values((cells, 4), 5).abs() / 2
    for image, objects in enumerate(truth):
        for label, cell, difficult in objects:
            labels[image, cell] = float(difficult)
            labels[image, cells + cell] = 1
            labels[image, 2 * cells + cell] = label
            labels[image, 3 * cells + 4 * cell : 3 * cells + 4 * cell + 4] = boxes[cell]
    text = (
        f"eval_detection_param {{ side: {SIDE} num_class: {CLASSES} num_object: {ANCHORS} "
        f"threshold: 0.3 nms: {nms} sqrt: {plain} constriant: {plain} }}"
    )
    top = evaluate("YOLOv1", text, x, labels)
    for image, objects in enumerate(truth):
        table = x.numpy()[image].reshape(-1, cells)
        found: list[Detection] = []
        for cell in range(cells):
            shares = table[:CLASSES, cell]
            for k in range(ANCHORS):
                at = CLASSES + ANCHORS + 4 * k
                box = table[at : at + 4, cell].tolist()
                if plain == "true":
                    box[0] = (cell % SIDE + box[0]) / SIDE
                    box[1] = (cell // SIDE + box[1]) / SIDE
                    box[2:] = [box[2] ** 2, box[3] ** 2]
                certain = table[CLASSES + k, cell]
                found.append((int(shares.argmax()), certain * shares.max(), box))
        if nms >= 0:
            found = suppressed(found, nms, by_class=False)
        own = [(label, boxes[cell].tolist(), hard) for label, cell, hard in objects]
        wanted = row_of(found, own, cells * ANCHORS, misses=True)
        np.testing.assert_allclose(top[image], wanted, rtol=1e-5, atol=1e-6)


NET = """
input: "x" input_shape { dim: 2 dim: 16 dim: 3 dim: 3 }
input: "l" input_shape { dim: 1 dim: 1 dim: 5 dim: 8 }
layer { name: "e" type: "EvalDetection" bottom: "x" bottom: "l" top: "e" %s MULTIPLY } }
"""


def test_the_dialect_tells_which_boxes_compete() -> None:
    with pytest.raises(LayerError, match=r"Intel; YOLO9000.*--dialect yolo9000"):
        net(NET % TEXT)
    tops = [
        net(NET % TEXT, dialect=one).forward(x=x(), l=ROWS)["e"] for one in ("intel", "yolo9000")
    ]
    assert tops[0].shape == tops[1].shape == (2, CLASSES + 4 * SIDE * SIDE * ANCHORS)
    assert not np.array_equal(tops[0], tops[1])


def x() -> Tensor:
    return 2 * values((2, ANCHORS * (5 + CLASSES), SIDE, SIDE), 3)


def region(labels: Sequence[int]) -> Sequence[Sequence[int]]:
    return (2, ANCHORS * (5 + CLASSES), SIDE, SIDE), labels


def test_refused() -> None:
    text = TEXT.replace("nms: 0.4", "")
    with pytest.raises(LayerError, match="nms is negative"):
        made("EvalDetection (Intel)", f"{text} OBJ }}", *region((1, 1, 5, 8)))
    with pytest.raises(LayerError, match="save_output_param is not supported"):
        made(
            "EvalDetection (YOLO9000)",
            f"{TEXT} OBJ save_output_param {{ }} }}",
            *region((1, 1, 5, 8)),
        )
    with pytest.raises(LayerError, match=r"expected Nx16x3x3"):
        run("EvalDetection (Intel)", f"{TEXT} OBJ }}", x(), torch.zeros(1, 1, 5, 7))
    other = ROWS.clone()
    other[0, 0, 0, 0] = 2
    with pytest.raises(LayerError, match="an object of image 2, but the batch has 2 images"):
        run("EvalDetection (Intel)", f"{TEXT} OBJ }}", x(), other)
