"""Greedy merging of predicted boxes, after OverFeat (Sermanet et al. 2013, Sect. 4.3).

The two boxes with the smallest match score are replaced by their average until no match score is
at or below a threshold. Neither OverFeat nor the VGG paper states the match score exactly, its
unit, or the threshold. OverFeat says that it uses the sum of the distance between the centres and
the area of the intersection; a sum would grow with the intersection, although the smallest score
is merged first, so here the intersection counts the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caffecompat.evaluate.localisation.box_predictions import overlap

Floats = NDArray[np.float64]
Match = Literal["distance-overlap", "overlap", "distance"]


@dataclass(frozen=True)
class MergeOptions:
    """What the publications leave open.

    Attributes:
        match: the match score of two boxes: ``"distance"`` is the distance of their centres
            divided by the mean of their sides (of both widths and both heights), ``"overlap"`` is 1
            minus their intersection over union, ``"distance-overlap"`` is the sum of both. Equal
            boxes have the score 0.
        threshold: boxes are merged while the smallest match score is at most this; 0 merges
            equal boxes only.
        weighted: each prediction counts the same in the average, however often boxes were merged
            before; otherwise the two boxes that are merged count the same.
    """

    match: Match = "distance-overlap"
    threshold: float = 0.5
    weighted: bool = True


@dataclass(frozen=True)
class MergedBoxes:
    """Merged boxes, the one with the largest score first.

    Attributes:
        boxes: (M, 4).
        scores: (M,), the sum of the class scores of the predictions that were merged.
        counts: (M,), their number.
    """

    boxes: Floats
    scores: Floats
    counts: NDArray[np.int64]


def match_scores(box: Floats, others: Floats, match: Match) -> Floats:
    """The match scores of one box (4,) with others (N, 4)."""
    score = np.zeros(len(others))
    if match != "overlap":
        sides = np.maximum(box[2:].sum() + others[:, 2:].sum(1), 1e-12) / 4
        score += np.hypot(*(others[:, :2] - box[:2]).T) / sides
    if match != "distance":
        score += 1 - overlap(box, others)
        # Boxes without an area have no overlap, not even with themselves.
        score[(others == box).all(1)] = 0
    return score


def merge(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], options: MergeOptions
) -> MergedBoxes:
    """Merges the boxes that were predicted for one class.

    Of pairs with equal match scores the one with the smaller indices is merged first; a merged box
    has the smaller index of its two. Needs 8 N * N bytes.

    Args:
        boxes: (N, 4) in one unit; at least one.
        scores: (N,), the class score of the window that each box was predicted from.
    """
    kept = np.array(boxes, np.float64)
    sums, counts = np.array(scores, np.float64), np.ones(len(kept), np.int64)
    alive = np.ones(len(kept), bool)
    pairs = _Pairs(kept, options.match)
    while True:
        score, i, j = pairs.smallest()
        if not score <= options.threshold:
            break
        shares = counts[[i, j]] if options.weighted else np.ones(2)
        kept[i] = np.average(kept[[i, j]], 0, shares)
        sums[i] += sums[j]
        counts[i] += counts[j]
        alive[j] = False
        renewed = match_scores(kept[i], kept, options.match)
        pairs.merge(i, j, np.where(alive, renewed, np.inf))
    order = np.argsort(-sums[alive], kind="stable")
    return MergedBoxes(kept[alive][order], sums[alive][order], counts[alive][order])


class _Pairs:
    """The match scores of all pairs (i, j) with i < j, and the smallest one of each i."""

    def __init__(self, boxes: Floats, match: Match) -> None:
        count = len(boxes)
        self._table = np.full((count, count), np.inf)
        for i in range(count - 1):
            self._table[i, i + 1 :] = match_scores(boxes[i], boxes[i + 1 :], match)
        self._column = self._table.argmin(1)
        self._score = self._table.min(1)

    def smallest(self) -> tuple[float, int, int]:
        """The smallest score, and its pair; infinite where no pair is left."""
        i = int(self._score.argmin())
        return float(self._score[i]), i, int(self._column[i])

    def merge(self, i: int, j: int, scores: Floats) -> None:
        """Removes box ``j``; box ``i`` has new match scores (N,), infinite for removed boxes."""
        table = self._table
        table[j] = table[:, j] = np.inf
        table[i, i + 1 :] = scores[i + 1 :]
        table[:i, i] = scores[:i]
        # Only rows that lose their smallest score, or may have a new one, are searched again.
        lost = ((self._column == i) | (self._column == j)) & (self._score < np.inf)
        gained = (table[:, i] <= self._score) & (table[:, i] < np.inf)
        stale = lost | gained
        stale[[i, j]] = True
        rows = np.flatnonzero(stale)
        self._column[rows] = table[rows].argmin(1)
        self._score[rows] = table[rows, self._column[rows]]
