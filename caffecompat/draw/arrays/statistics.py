"""Statistics and histograms of arrays of parameters and activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 40
# A histogram of more values is drawn from an evenly spaced part of them.
_MOST_VALUES_IN_HISTOGRAM = 1 << 20


@dataclass(frozen=True)
class Statistics:
    """What an array holds; numbers are of its finite values.

    Attributes:
        count: all values.
        not_finite: how many are infinite or not a number.
        zeros: the share of zeros, 0 to 1.
        histogram: counts in :data:`BINS` equal intervals from ``minimum`` to ``maximum``; empty
            without finite values.
        sampled: how many values the histogram counts, evenly spaced; ``count`` for all.
    """

    shape: tuple[int, ...]
    count: int
    not_finite: int
    zeros: float
    minimum: float
    maximum: float
    mean: float
    deviation: float
    norm: float
    histogram: tuple[int, ...]
    sampled: int


def statistics_of(array: NDArray[np.floating]) -> Statistics:
    """The statistics of an array of any shape."""
    shape = tuple(array.shape)
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    finite = flat if np.isfinite(flat).all() else flat[np.isfinite(flat)]
    if not finite.size:
        return Statistics(shape, flat.size, flat.size, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (), 0)
    low, high = float(finite.min()), float(finite.max())
    mean = float(finite.mean(dtype=np.float64))
    squares = _sum_of_squares(finite)
    step = -(-finite.size // _MOST_VALUES_IN_HISTOGRAM)
    sample = finite[::step]
    return Statistics(
        shape=shape,
        count=flat.size,
        not_finite=flat.size - finite.size,
        zeros=1 - np.count_nonzero(finite) / finite.size,
        minimum=low,
        maximum=high,
        mean=mean,
        deviation=max(squares / finite.size - mean * mean, 0.0) ** 0.5,
        norm=squares**0.5,
        histogram=_histogram(sample, low, high),
        sampled=sample.size,
    )


def _sum_of_squares(values: NDArray[np.float32]) -> float:
    """In double precision, without a copy of all values in it."""
    piece = 1 << 22
    return float(
        sum(
            np.square(values[i : i + piece], dtype=np.float64).sum()
            for i in range(0, values.size, piece)
        )
    )


def _histogram(values: NDArray[np.float32], low: float, high: float) -> tuple[int, ...]:
    if low == high:
        counts = [0] * BINS
        counts[BINS // 2] = values.size
        return tuple(counts)
    scaled = (values.astype(np.float64) - low) * (BINS / (high - low))
    bins = np.clip(scaled.astype(np.int64), 0, BINS - 1)
    return tuple(np.bincount(bins, minlength=BINS).tolist())
