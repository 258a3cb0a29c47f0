"""Which boxes without an object take part in a loss: the mining of MultiBoxLoss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes, areas, falling, suppress
from caffecompat.layers._base import Message
from caffecompat.layers.forks.ssd.multibox._matching import UNMATCHED, Match

# Non-maximum suppression before mining drops boxes with a smaller area.
_SMALLEST_AREA = 1e-5


@dataclass(frozen=True)
class MiningOptions:
    """How examples are chosen.

    Attributes:
        kind: NONE, MAX_NEGATIVE or HARD_EXAMPLE.
        ratio: the largest number of negatives for each match (MAX_NEGATIVE).
        neg_overlap: negatives overlap every object less than this (MAX_NEGATIVE).
        sample_size: examples per image (HARD_EXAMPLE).
        nms_threshold: largest overlap of two examples; 0 for any.
        nms_top_k: how many examples enter non-maximum suppression; -1 for all.
    """

    kind: str
    ratio: float
    neg_overlap: float
    sample_size: int
    nms_threshold: float
    nms_top_k: int

    @classmethod
    def from_message(cls, p: Message) -> MiningOptions:
        """From a MultiBoxLossParameter. An ``nms_param`` without ``top_k`` keeps no example."""
        nms = p.nms_param if p.HasField("nms_param") else None
        return cls(
            kind=p.MiningType.Name(p.mining_type),
            ratio=p.neg_pos_ratio,
            neg_overlap=p.neg_overlap,
            sample_size=p.sample_size,
            nms_threshold=0.0 if nms is None else nms.nms_threshold,
            nms_top_k=-1 if nms is None else nms.top_k,
        )


@dataclass(frozen=True)
class Mined:
    """The examples of one image: (P,) masks."""

    positive: NDArray[np.bool_]
    negative: NDArray[np.bool_]


def mine(
    match: Match,
    losses: NDArray[np.float32],
    boxes: Boxes,
    candidates: NDArray[np.bool_],
    options: MiningOptions,
) -> Mined:
    """Chooses the examples of one image that has objects.

    MAX_NEGATIVE: all matches, and of the boxes that overlap no object much those with the largest
    losses. HARD_EXAMPLE: the ``sample_size`` boxes with the largest losses, matched or not.

    Args:
        match: of the image's P boxes.
        losses: (P,).
        boxes: (P, 4), for non-maximum suppression.
        candidates: (P,) boxes that may be chosen.
    """
    positive, free = match.objects > UNMATCHED, match.objects == UNMATCHED
    if options.kind == "MAX_NEGATIVE":
        eligible = free & (match.overlaps < np.float32(options.neg_overlap)) & candidates
        most = int(np.float32(int(positive.sum())) * np.float32(options.ratio))
    else:
        eligible, most = candidates, options.sample_size
    chosen = np.zeros(len(losses), bool)
    places = np.flatnonzero(eligible)
    order = _ranked(losses[places], boxes[places], options)[:most]
    chosen[places[order]] = True
    if options.kind == "HARD_EXAMPLE":
        positive = positive & chosen
    return Mined(positive, free & chosen)


def _ranked(losses: NDArray[np.float32], boxes: Boxes, options: MiningOptions) -> NDArray[np.int64]:
    """Indices by falling loss, after non-maximum suppression where that is wanted."""
    order = falling(losses)
    if options.nms_threshold <= 0:
        return order
    top_k = options.nms_top_k
    if top_k > -1:
        order = order[:top_k]
    order = order[areas(boxes[order]) >= np.float32(_SMALLEST_AREA)]
    return order[suppress(boxes[order], options.nms_threshold)]
