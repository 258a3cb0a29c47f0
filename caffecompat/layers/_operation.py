"""What a layer computes, where a GPU has a faster way to compute it, alone or with its reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolve:
    """A convolution of (N, C, H, W) with the parameters ``weight`` and ``bias``.

    ``stride``, ``pad`` and ``dilation`` have H before W.
    """

    stride: Pair
    pad: Pair
    dilation: Pair
    group: int


@dataclass(frozen=True)
class Rectify:
    """max(x, 0)."""


@dataclass(frozen=True)
class TakeMaximum:
    """The maximum of each window of (N, C, H, W); ``windows`` of the layer says which there are.

    ``halves``: the windows are 2x2 with stride 2 and without padding, in any plane, and the last
    ones may be cut.
    """

    halves: bool


@dataclass(frozen=True)
class Drop:
    """x * scale with ``probability``, by the layer's noise, else 0."""

    probability: float
    scale: float


Operation: TypeAlias = Convolve | Rectify | TakeMaximum | Drop
