"""Counter-based random numbers: pure functions of (seed, purpose, ordinal).

The random choices for sample ``s`` of a run depend only on the seed and ``s``: not on the number
of prefetching threads, the order in which they finish, or where a run was resumed. Each number is
a hash of a counter (two rounds of the splitmix64 finaliser); the generator has no state.

``layers/_counter_rng.py`` has the generator for dropout, on torch tensors. It hashes its keys
differently, and the numbers of both are fixed by saved runs.
"""

from __future__ import annotations

import hashlib
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Draws = TypeVar("Draws", int, NDArray[np.uint64])

_MASK = (1 << 64) - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


def draw(seed: int, ordinals: NDArray[Any], purpose: str) -> NDArray[np.uint64]:
    """One uniform 64-bit number per ordinal.

    Args:
        seed: any integer; used modulo 2**64.
        ordinals: integer array of any shape, e.g. sample numbers.
        purpose: the use of the numbers ("crop row"); different purposes are independent.

    Returns:
        uint64 array shaped like ``ordinals``.
    """
    key = hashlib.blake2b((seed & _MASK).to_bytes(8, "little") + purpose.encode(), digest_size=16)
    first, second = np.frombuffer(key.digest(), np.dtype("<u8"))
    # At least one axis, since numpy warns about overflow of scalars; wrapping is intended here.
    counters = np.atleast_1d(np.asarray(ordinals)).astype(np.uint64)
    mixed = _mix(_mix(counters * _GOLDEN + first) ^ second)
    return mixed.reshape(np.shape(ordinals))


def pick(draws: Draws, limit: int) -> Draws:
    """Maps draws to integers 0 <= k < limit, uniform to within limit / 2**32.

    Args:
        draws: the result of :func:`draw`, or one of its numbers as an int.
        limit: positive, below 2**32.
    """
    high: Any = draws >> 32
    picked: Draws = (high * limit) >> 32
    return picked


def pick_one(seed: int, ordinal: int, purpose: str, limit: int) -> int:
    """An integer 0 <= k < limit for one ordinal; arguments as of :func:`draw` and :func:`pick`."""
    return int(pick(draw(seed, np.array([ordinal], np.int64), purpose), limit)[0])


def normal(seed: int, ordinals: NDArray[Any], purpose: str) -> NDArray[np.float64]:
    """One number of the standard normal distribution per ordinal; arguments as :func:`draw`.

    Returns:
        float64 array shaped like ``ordinals``, with absolute values up to 8.3.
    """
    drawn = draw(seed, ordinals, purpose)
    # One by one, since the last bit of numpy's vectorised functions may depend on the length.
    quantile = NormalDist().inv_cdf
    numbers = [quantile(((number >> 12) + 0.5) / (1 << 52)) for number in drawn.ravel().tolist()]
    return np.array(numbers, np.float64).reshape(drawn.shape)


def permutation(seed: int, count: int, purpose: str) -> NDArray[np.int64]:
    """The numbers 0 ... count-1 in an order that depends only on (seed, purpose)."""
    return np.argsort(draw(seed, np.arange(count), purpose), kind="stable")


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> _SHIFTS[0])) * _MULTIPLIERS[0]
    values = (values ^ (values >> _SHIFTS[1])) * _MULTIPLIERS[1]
    return values ^ (values >> _SHIFTS[2])
