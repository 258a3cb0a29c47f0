"""Rounding of numbers against exact decimal arithmetic."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from math import nextafter

import numpy as np
import pytest

from caffecompat.data.rounding import round_away


@pytest.mark.parametrize("half", [0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1023.5])
def test_numbers_near_halves(half: float) -> None:
    for value in (nextafter(half, -9e9), half, nextafter(half, 9e9)):
        # ROUND_HALF_UP moves halves away from 0, also below 0.
        wanted = Decimal(value).quantize(Decimal(1), ROUND_HALF_UP)
        assert round_away(value) == int(wanted)


def test_numbers_of_32_bits() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert [round_away(value) for value in (below, np.float32(0.5), -below)] == [0, 1, 0]
