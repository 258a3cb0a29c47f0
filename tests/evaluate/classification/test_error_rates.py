"""Top-k errors and confusions against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffecompat.evaluate.classification.error_rates import (
    confusion_matrix,
    ranks,
    top_k_error,
)


@pytest.mark.parametrize("seed", range(10))
def test_against_sorting(seed: int) -> None:
    random = np.random.default_rng(seed)
    # Few distinct values, so that there are ties.
    values = random.integers(0, 4, (30, 7)) / 4
    labels = random.integers(0, 7, 30)
    order = [sorted(range(7), key=lambda c, row=row: (-row[c], c)) for row in values]  # type: ignore
    places = [sequence.index(label) for sequence, label in zip(order, labels, strict=True)]
    assert ranks(values, labels).tolist() == places
    for k in (1, 2, 5, 7):
        assert top_k_error(values, labels, k) == np.mean([place >= k for place in places])
    expected = np.zeros((7, 7), int)
    for sequence, label in zip(order, labels, strict=True):
        expected[label, sequence[0]] += 1
    assert np.array_equal(confusion_matrix(values, labels), expected)


def test_without_images() -> None:
    assert math.isnan(top_k_error(np.zeros((0, 3)), np.zeros(0, int), 1))
