"""The random numbers of one sample, for augmentations that need many of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.counter_rng import draw

# How many random numbers one purpose can have.
MOST_NUMBERS = 1 << 16


@dataclass(frozen=True)
class SampleChoices:
    """Random numbers that are pure functions of the seed, the sample and the purpose.

    Attributes:
        seed: any integer.
        ordinal: number of the sample in the run.
    """

    seed: int
    ordinal: int

    def uniforms(
        self, purpose: str, low: float, high: float, count: int, start: int = 0
    ) -> NDArray[np.float32]:
        """Numbers ``start`` to ``start + count`` of a series between ``low`` and ``high``."""
        base = np.uint64(self.ordinal) * np.uint64(MOST_NUMBERS)
        drawn = draw(self.seed, base + np.arange(start, start + count, dtype=np.uint64), purpose)
        shares = (drawn >> np.uint64(11)).astype(np.float64) / (1 << 53)
        return (low + shares * (high - low)).astype(np.float32)

    def uniform(self, purpose: str, low: float = 0.0, high: float = 1.0) -> float:
        """A number between ``low`` and ``high``."""
        return float(self.uniforms(purpose, low, high, 1)[0])

    def pick(self, purpose: str, limit: int) -> int:
        """A whole number from 0 to ``limit`` - 1."""
        return min(int(self.uniform(purpose) * limit), limit - 1)

    def happens(self, purpose: str, probability: float) -> bool:
        """True with that probability."""
        return self.uniform(purpose) < probability

    def order(self, purpose: str, count: int) -> list[int]:
        """The numbers 0 to ``count`` - 1 in a random order."""
        found: list[int] = np.argsort(self.uniforms(purpose, 0, 1, count), kind="stable").tolist()
        return found
