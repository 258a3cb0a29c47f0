"""Learning rates as forks of Caffe define them."""

from __future__ import annotations

import pytest

from caffecompat.proto.text.parser import parse_text
from caffecompat.solver.setup.settings import read_settings


def rates(text: str, count: int) -> list[float]:
    message = parse_text(f'net: "n" max_iter: 10 {text}', "SolverParameter")[0]
    settings = read_settings(message)
    return [
        float(settings.limits.applied(settings.policy.rate(iteration), iteration))
        for iteration in range(count)
    ]


def test_stages() -> None:
    text = 'lr_policy: "multifixed" base_lr: 9 stagelr: [0.5, 2, 0.25] stageiter: [1, 2, 4] '
    assert rates(text, 7) == [0.5, 0.5, 2, 0.25, 0.25, 0.25, 0.25]


def test_a_straight_rise() -> None:
    text = 'lr_policy: "step" gamma: 0.5 stepsize: 5 base_lr: 8 warmup_iter: 4 warmup_start_lr: 2'
    assert rates(text, 7) == [2, 3.5, 5, 6.5, 8, 4, 4]


def test_a_parabola() -> None:
    text = 'lr_policy: "fixed" base_lr: 8 rampup_interval: 4'
    assert rates(text, 6) == [0, 0.5, 2, 4.5, 8, 8]
    assert rates(f"{text} rampup_lr: 4 min_lr: 5", 6) == [5, 5, 5, 6.25, 8, 8]


def test_a_lower_bound() -> None:
    assert rates('lr_policy: "exp" gamma: 0.5 base_lr: 8 min_lr: 1.5', 5) == [8, 4, 2, 1.5, 1.5]
    # Only where it is given: BVLC Caffe takes negative rates as they are.
    assert rates('lr_policy: "exp" gamma: 0.5 base_lr: -8', 3) == [-8, -4, -2]
    falling = rates('lr_policy: "poly" power: 2 base_lr: 8 min_lr: 2', 11)
    expected = [(8 - 2) * (1 - i / 10) ** 2 + 2 for i in range(11)]
    assert falling == pytest.approx(expected, rel=1e-6)
