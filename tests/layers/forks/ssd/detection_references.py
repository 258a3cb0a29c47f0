"""SSD's box codes, overlaps and matching in plain loops, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

Box = Sequence[float]


def overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0

    def area(box: Box) -> float:
        return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])

    return width * height / (area(a) + area(b) - width * height)


def decoded(code: str, v: Sequence[float], prior: Box, variance: Sequence[float]) -> list[float]:
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    v = [a * b for a, b in zip(v, variance, strict=True)]
    if code == "CORNER":
        return [p + one for p, one in zip(prior, v, strict=True)]
    if code == "CORNER_SIZE":
        size = (width, height, width, height)
        return [p + one * s for p, one, s in zip(prior, v, size, strict=True)]
    x = v[0] * width + (prior[0] + prior[2]) / 2
    y = v[1] * height + (prior[1] + prior[3]) / 2
    w, h = exp(v[2]) * width, exp(v[3]) * height
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def encoded(code: str, box: Box, prior: Box, variance: Sequence[float]) -> list[float]:
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    values = [a - b for a, b in zip(box, prior, strict=True)]
    if code == "CORNER_SIZE":
        size = (width, height, width, height)
        values = [v / s for v, s in zip(values, size, strict=True)]
    if code == "CENTER_SIZE":
        values = [
            ((box[0] + box[2]) - (prior[0] + prior[2])) / 2 / width,
            ((box[1] + box[3]) - (prior[1] + prior[3])) / 2 / height,
            log((box[2] - box[0]) / width),
            log((box[3] - box[1]) / height),
        ]
    return [v / f for v, f in zip(values, variance, strict=True)]


def matched(
    objects: Sequence[Box], boxes: Sequence[Box], threshold: float, per_prediction: bool
) -> tuple[list[int], list[float]]:
    """For each box the index of its object, or -1, and its overlap."""
    found, best = [-1] * len(boxes), [0.0] * len(boxes)
    shared = {
        (i, j): overlap(box, one)
        for i, box in enumerate(boxes)
        for j, one in enumerate(objects)
        if overlap(box, one) > 1e-6
    }
    for (i, _), value in shared.items():
        best[i] = max(best[i], value)
    pool = set(range(len(objects)))
    while pool:
        free = {k: v for k, v in shared.items() if found[k[0]] == -1 and k[1] in pool}
        if not free:
            break
        i, j = max(free, key=lambda k: free[k])
        found[i], best[i] = j, shared[i, j]
        pool.remove(j)
    if per_prediction:
        for i in range(len(boxes)):
            own = {j: v for (k, j), v in shared.items() if k == i and v >= threshold}
            if found[i] == -1 and own:
                found[i] = max(own, key=lambda j: own[j])
    return found, best
