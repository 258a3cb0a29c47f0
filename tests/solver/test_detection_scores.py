"""SSD's average precision, against its definition in loops, and the settings of its tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffecompat.data.detection_precision import average_precision
from caffecompat.errors import SolverError
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver.detection_scores import (
    DetectionSums,
    class_precisions,
)
from caffecompat.solver.setup.settings import read_settings


def precision_and_recall(
    scores: list[float], hits: list[bool], objects: int
) -> tuple[list[float], list[float]]:
    ranked = sorted(range(len(scores)), key=lambda i: -scores[i])
    found, precision, recall = 0, [], []
    for count, i in enumerate(ranked, 1):
        found += hits[i]
        precision.append(found / count)
        recall.append(found / objects)
    return precision, recall


def expected(scores: list[float], hits: list[bool], objects: int, version: str) -> float:
    precision, recall = precision_and_recall(scores, hits, objects)
    pairs = list(zip(precision, recall, strict=True))
    if version == "11point":
        reached = [max((p for p, r in pairs if r >= j / 10 - 1e-9), default=0.0) for j in range(11)]
        return sum(reached) / 11
    total, last = 0.0, 0.0
    for i, (p, r) in enumerate(pairs):
        if version == "MaxIntegral":
            p = max(precision[max(0, i - 1) :])
        total += p * (r - last)
        last = r
    return total


@pytest.mark.parametrize("version", ["11point", "MaxIntegral", "Integral"])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision(version: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.random(60)
    hits = generator.random(60) < scores
    # More objects than detections find; recalls are no multiples of 1/10.
    objects = int(hits.sum()) + 17
    found = average_precision(scores, hits, objects, version)
    wanted = expected(scores.tolist(), hits.tolist(), objects, version)
    assert found == pytest.approx(wanted, abs=1e-6)
    assert 0.2 < found < 0.9


@pytest.mark.parametrize("version", ["11point", "MaxIntegral", "Integral"])
def test_extremes(version: str) -> None:
    none, one = np.zeros(0), np.ones(3)
    assert average_precision(none, none > 0, 4, version) == 0
    assert average_precision(one, one > 0, 0, version) == 0
    assert average_precision(one, one > 0, 3, version) == pytest.approx(1)
    assert average_precision(one, one < 0, 3, version) == 0


def test_eleven_points_of_few_objects() -> None:
    """Recalls 0.5 and 1 with precisions 1 and 2/3: six points have 1, those from 0.6 on 2/3."""
    scores, hits = np.array([0.9, 0.8, 0.7]), np.array([True, False, True])
    found = average_precision(scores, hits, 2, "11point")
    assert found == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


ROWS = torch.tensor(
    [
        [-1, 1, 2, -1, -1],
        [-1, 2, 1, -1, -1],
        [-1, 3, 0, -1, -1],
        [0, 1, 0.9, 1, 0],
        [0, 1, 0.8, 0, 0],  # of a difficult object
        [0, 1, 0.5, 0, 1],
        [0, 2, 0.4, 0, 1],
    ]
)


def test_classes_of_all_batches_count_together() -> None:
    second = torch.tensor([[-1, 1, 2, -1, -1], [3, 1, 0.7, 1, 0.0]])
    rows = torch.cat([ROWS, second]).numpy()
    found = {one.label: one for one in class_precisions(rows, "Integral")}
    assert found[1].precision == pytest.approx(0.5)
    assert (found[2].precision, found[2].missing) == (0, False)
    assert (found[3].precision, found[3].missing) == (0, True)


def test_the_score_of_an_output_and_its_lines() -> None:
    sums = DetectionSums(version="Integral", show_classes=True)
    sums.add({"eval": ROWS[None, None]}, torch.tensor(2.0))
    sums.add({"eval": torch.tensor([[[[-1.0, 1, 2, -1, -1]]]])}, torch.tensor(4.0))
    scores = sums.means()
    assert scores.loss == 3
    assert scores.outputs["eval"] == [pytest.approx(0.25 / 3)]
    assert list(sums.lines()) == ["class1: 0.25", "class2: 0", "Missing true_pos for label: 3"]


def test_outputs_that_are_no_detections_are_refused() -> None:
    with pytest.raises(SolverError, match=r"output 'accuracy' is .*needs the rows of Detection"):
        DetectionSums().add({"accuracy": torch.zeros(())}, torch.zeros(()))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('eval_type: "boxes"', "eval_type is 'boxes', it must be one of classification, detection"),
        ('ap_version: "12point"', "ap_version is '12point', it must be one of 11point"),
    ],
)
def test_settings_are_checked(text: str, sentence: str) -> None:
    message, _ = parse_text(f'net: "n" base_lr: 1 lr_policy: "fixed" {text}', "SolverParameter")
    with pytest.raises(SolverError, match=sentence):
        read_settings(message)
