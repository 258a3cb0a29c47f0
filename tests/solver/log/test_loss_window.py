from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caffecompat.solver.loss_window import LossWindow


def values(length: int, losses: list[float]) -> list[float]:
    window = LossWindow(length)
    found = []
    for i, loss in enumerate(losses):
        window.add(i, torch.tensor(loss))
        found.append(window.value)
    return found


def test_a_window_that_is_not_full_averages_what_is_there() -> None:
    assert values(3, [2, 4, 9, 2]) == pytest.approx([2, 3, 5, 5])


def test_reading_late_changes_nothing() -> None:
    losses = np.random.default_rng(1).normal(size=300).tolist()
    window = LossWindow(7)
    for i, loss in enumerate(losses):
        window.add(i, torch.tensor(loss))
    assert window.value == values(7, losses)[-1]


def test_a_broken_loss_is_remembered_and_leaves_the_window() -> None:
    window = LossWindow(2)
    for i, loss in enumerate([1.0, math.nan, 3.0]):
        window.add(i, torch.tensor(loss))
    assert math.isnan(window.value)
    window.add(3, torch.tensor(5.0))
    assert window.value == 4
    assert window.first_nonfinite == 1
