"""Random choices of anchors and regions, each a pure function of seed, layer and pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from caffecompat.layers._counter_rng import Noise

# Above all keys.
_NO_KEY = 2**31


def draw_keys(noise: Noise, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent lists of ``count`` random keys (int64) on the device of ``like``."""
    first, second = noise.bits(like.new_empty(2, count)).long().unbind(0)
    return first, second


def at_most(chosen: Tensor, keys: Tensor, limit: Tensor | int) -> Tensor:
    """``chosen`` (n) bool, thinned out at random to ``limit`` entries."""
    import torch

    order = keys.where(chosen, _NO_KEY).argsort(stable=True)
    rank = torch.empty_like(order)
    rank = rank.scatter(0, order, torch.arange(len(order), device=order.device))
    return chosen & (rank < limit)


def some(chosen: Tensor, keys: Tensor, limit: int) -> Tensor:
    """Up to ``limit`` indices of the entries that are True, in random order."""
    found = chosen.nonzero().squeeze(1)
    return found[keys[found].argsort(stable=True)[:limit]]


def hardest(chosen: Tensor, ranking: Tensor, limit: Tensor | int) -> Tensor:
    """``chosen`` (n) bool, reduced to the ``limit`` entries with the largest ``ranking``.

    Of equal ones the last counts as larger.
    """
    import torch

    lowest = ranking.where(chosen, -float("inf")).flip(0)
    order = len(ranking) - 1 - lowest.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank = rank.scatter(0, order, torch.arange(len(order), device=order.device))
    return chosen & (rank < limit)
