"""Chance: pure, seeded, uniform."""

from __future__ import annotations

import numpy as np
import pytest

from caffecompat.data import counter_rng
from caffecompat.data.counter_rng import draw, normal, permutation, pick


def test_draws_are_the_same_on_every_machine() -> None:
    # Pinned: a resumed run must see the same crops after an upgrade of this package.
    drawn = draw(7, np.array([0, 1, 1 << 40]), "crop row")
    assert drawn.tolist() == [
        11197859312467760467,
        2990635143664988054,
        492661398379232508,
    ]


def test_a_draw_does_not_depend_on_its_neighbours() -> None:
    together = draw(3, np.arange(100, 130), "mirror")
    alone = [int(draw(3, np.array(number), "mirror")) for number in range(100, 130)]
    assert together.tolist() == alone


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 5)])
def test_draws_keep_the_shape_of_the_ordinals(shape: tuple[int, ...]) -> None:
    assert draw(1, np.zeros(shape, np.int64), "x").shape == shape


def test_seed_purpose_and_ordinal_all_matter() -> None:
    ordinals = np.arange(1000)
    streams = [draw(seed, ordinals, purpose) for seed in (0, 1, -1) for purpose in ("a", "b")]
    assert len(np.unique(np.concatenate(streams))) == 6000


@pytest.mark.parametrize("limit", [1, 2, 3, 33, 1000])
def test_picks_are_uniform(limit: int) -> None:
    count = 200 * limit
    picks = pick(draw(11, np.arange(count), "uniform"), limit)
    assert picks.max() < limit
    counts = np.bincount(picks.astype(np.int64), minlength=limit)
    # Sum of (limit - 1) squared normals: mean limit - 1, deviation sqrt(2 (limit - 1)).
    chi_square = ((counts - 200.0) ** 2 / 200).sum()
    assert abs(chi_square - (limit - 1)) <= 4 * np.sqrt(2 * limit)


def test_successive_picks_are_independent() -> None:
    picks = pick(draw(5, np.arange(40001), "pairs"), 6).astype(np.int64)
    counts = np.bincount(6 * picks[:-1] + picks[1:], minlength=36)
    expected = 40000 / 36
    assert ((counts - expected) ** 2 / expected).sum() < 35 + 4 * np.sqrt(70)


def test_pick_of_an_int_equals_pick_of_an_array() -> None:
    drawn = draw(2, np.arange(50), "x")
    assert [pick(int(number), 17) for number in drawn] == pick(drawn, 17).tolist()


def test_permutations_hold_every_number_once_and_depend_on_the_seed() -> None:
    first, second = (permutation(seed, 101, "order") for seed in (1, 2))
    assert sorted(first) == sorted(second) == list(range(101))
    assert first.tolist() != second.tolist()
    assert permutation(1, 101, "order").tolist() == first.tolist()


def test_normal_draws_are_normal() -> None:
    numbers = normal(3, np.arange(50_000), "x")
    # Deciles of the standard normal distribution.
    edges = [
        -1.281552,
        -0.841621,
        -0.524401,
        -0.253347,
        0.0,
        0.253347,
        0.524401,
        0.841621,
        1.281552,
    ]
    counts = np.bincount(np.searchsorted(edges, numbers), minlength=10)
    assert ((counts - 5000.0) ** 2 / 5000).sum() < 9 + 4 * np.sqrt(18)
    assert abs(numbers.mean()) < 4.5 / np.sqrt(50_000)
    assert abs(numbers.var() - 1) < 4.5 * np.sqrt(2 / 50_000)
    assert np.abs(numbers).max() < 6


def test_normal_draws_are_pure_and_pinned() -> None:
    together = normal(3, np.arange(100, 131), "x")
    assert together.tolist() == [float(normal(3, np.array(n), "x")) for n in range(100, 131)]
    assert normal(3, np.zeros((2, 5), np.int64), "x").shape == (2, 5)
    pinned = [0.27160512207177645, -0.9857713821380696]
    np.testing.assert_allclose(normal(7, np.array([0, 1]), "crop row"), pinned, rtol=1e-12)


def test_the_ends_of_the_range_of_draws_are_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = np.array([0, (1 << 64) - 1], np.uint64)
    monkeypatch.setattr(counter_rng, "draw", lambda seed, ordinals, purpose: ends)
    low, high = normal(0, np.arange(2), "x")
    assert -8.3 < low == -high < -8
