"""Numbers that the tests of YOLO layers share."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import torch
from torch import Tensor


def values(shape: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    ]
    common = sides[0] * sides[1] if min(sides) > 0 else 0.0
    return common / (a[2] * a[3] + b[2] * b[3] - common)
