"""MultiBoxLoss and its parts, computed box by box in plain loops."""

from __future__ import annotations

from math import exp, log

import torch
from torch import Tensor

from tests.layers.forks.ssd.detection_references import encoded, matched
from tests.layers.messages import run

COUNT = 3
CLASSES = 4
TRUTH = torch.tensor(
    [
        [0, 1, 0, 0.05, 0.05, 0.55, 0.5, 0],
        [0, 3, 0, 0.4, 0.45, 0.95, 0.9, 0],
        [0, 2, 0, 0.5, 0.1, 0.8, 0.35, 1],
        [2, 2, 0, 0.2, 0.15, 0.7, 0.8, 0],
    ],
    dtype=torch.float64,
)


def priors() -> Tensor:
    """16 boxes of one size and 4 of another, on a grid; some cross the border."""
    boxes = [
        [x - s, y - s, x + s, y + s]
        for s, n in ((0.15, 4), (0.35, 2))
        for y in [(i + 0.5) / n for i in range(n)]
        for x in [(i + 0.5) / n for i in range(n)]
    ]
    variances = [[0.1, 0.1, 0.2, 0.2]] * len(boxes)
    return torch.tensor([boxes, variances], dtype=torch.float64).reshape(1, 2, -1)


def predictions(location_classes: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    exact = {"generator": generator, "dtype": torch.float64}
    count = priors().shape[2] // 4
    locations = torch.randn(COUNT, count * location_classes * 4, **exact)  # type: ignore[call-overload]
    return locations, torch.randn(COUNT, count * CLASSES, **exact) * 2  # type: ignore[call-overload]


def bottoms(location_classes: int = 1) -> tuple[Tensor, ...]:
    return (*predictions(location_classes), priors(), TRUTH[None, None])


def text(**values: object) -> str:
    values = {"code_type": "CENTER_SIZE", "num_classes": CLASSES, **values}
    return f"multibox_loss_param {{ {' '.join(f'{k}: {v}' for k, v in values.items())} }}"


def loss_of(*given: Tensor, loss_param: object = "", **values: object) -> Tensor:
    (loss,) = run("MultiBoxLoss", f"{text(**values)} loss_param {{ {loss_param} }}", *given)
    assert loss.shape == ()
    return loss


class Reference:
    """The parts of the loss, computed box by box."""

    def __init__(self, *given: Tensor, **values: object) -> None:
        self.code = str(values.get("code_type", "CENTER_SIZE"))
        self.logistic = values.get("conf_loss_type") == "LOGISTIC"
        self.squared = values.get("loc_loss_type") == "L2"
        boxes, variances = given[2].reshape(2, -1, 4).tolist()
        self.boxes, self.variances = boxes, variances
        self.locations = given[0].reshape(COUNT, len(boxes), -1, 4).tolist()
        self.scores = given[1].reshape(COUNT, len(boxes), CLASSES).tolist()
        self.per_prediction = values.get("match_type") != "BIPARTITE"
        use = values.get("use_difficult_gt") != "false"
        rows = [row for row in TRUTH.tolist() if use or not row[7]]
        self.objects = {n: [row for row in rows if row[0] == n] for n in range(COUNT)}

    def matches(self, n: int, boxes: list[list[float]] | None = None) -> list[int]:
        found, self.overlaps = matched(
            [row[3:7] for row in self.objects[n]], boxes or self.boxes, 0.5, self.per_prediction
        )
        return found

    def confidence(self, n: int, p: int, label: int) -> float:
        scores = self.scores[n][p]
        if self.logistic:
            return sum(
                log(1 + exp(score)) - (score if c == label else 0) for c, score in enumerate(scores)
            )
        return log(sum(exp(score) for score in scores)) - scores[label]

    def location(self, n: int, p: int, row: list[float], label: int = 0) -> float:
        target = encoded(self.code, row[3:7], self.boxes[p], self.variances[p])
        total = 0.0
        for value, wanted in zip(self.locations[n][p][label], target, strict=True):
            size = abs(value - wanted)
            linear = size >= 1 and not self.squared
            total += size - 0.5 if linear else 0.5 * size**2
        return total

    def max_negative(self) -> tuple[float, float, int]:
        """Location loss, confidence loss, matches."""
        where = conf = 0.0
        count = 0
        for n in range(COUNT):
            found = self.matches(n)
            if not self.objects[n]:
                continue
            negatives = [
                self.confidence(n, p, 0)
                for p, one in enumerate(found)
                if one == -1 and self.overlaps[p] < 0.5
            ]
            own = [(p, self.objects[n][one]) for p, one in enumerate(found) if one > -1]
            count += len(own)
            where += sum(self.location(n, p, row) for p, row in own)
            conf += sum(self.confidence(n, p, int(row[1])) for p, row in own)
            conf += sum(sorted(negatives, reverse=True)[: len(own) * 3])
        return where, conf, count
