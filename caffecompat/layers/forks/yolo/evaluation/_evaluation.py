"""The top of YOLO's EvalDetection layers: which detections of a batch are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message
from caffecompat.layers.forks.yolo._centre_boxes import overlaps, suppress
from caffecompat.proto.schema import enum_name

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """What a net finds in one image.

    Attributes:
        labels, scores: (K,).
        boxes: (K, 4), rows [x, y, width, height] relative to the image.
    """

    labels: Tensor
    scores: Tensor
    boxes: Tensor

    def at(self, places: Tensor) -> Detections:
        """Those at an index or a mask."""
        return Detections(self.labels[places], self.scores[places], self.boxes[places])

    def sorted(self) -> Detections:
        """By falling score; equal scores keep their order."""
        return self.at(self.scores.argsort(descending=True, stable=True))

    def suppressed(self, threshold: float) -> Detections:
        """Without those that a better one overlaps by ``threshold`` or more; must be sorted."""
        return self.at(suppress(self.boxes, threshold))

    def grouped(self) -> Detections:
        """By rising label; those of one label keep their order."""
        return self.at(self.labels.argsort(stable=True))


@dataclass(frozen=True)
class Objects:
    """The objects of one image.

    Attributes:
        labels: (T,).
        boxes: (T, 4), rows [x, y, width, height].
        difficult: (T,) bool; difficult objects do not count.
    """

    labels: Tensor
    boxes: Tensor
    difficult: Tensor


@dataclass(frozen=True)
class Verdicts:
    """How detections are judged.

    Attributes:
        threshold: the least overlap of a detection and its object.
        misses_count: whether a detection that overlaps no object of its class enough is false; if
            not, it is neither true nor false as long as the image has an object of the class.
    """

    threshold: float
    misses_count: bool

    def rows(self, found: Detections, objects: Objects) -> Tensor:
        """(K, 4): rows [label, score, true, false] for detections by label and falling score."""
        import torch

        judged = torch.zeros(len(found.labels), 2)
        for label in found.labels.unique().tolist():
            own = (found.labels == label).nonzero().flatten()
            truth = (objects.labels == label).nonzero().flatten()
            if len(truth) == 0:
                judged[own, 1] = 1
            else:
                judged[own] = self._of_class(
                    found.boxes[own], objects.boxes[truth], objects.difficult[truth].tolist()
                )
        return torch.cat([found.labels[:, None].float(), found.scores[:, None].float(), judged], 1)

    def _of_class(self, boxes: Tensor, truth: Tensor, difficult: Sequence[bool]) -> Tensor:
        import torch

        shared, best = overlaps(boxes[:, None], truth[None]).max(1)
        judged = torch.zeros(len(boxes), 2)
        taken = set()
        pairs = zip((shared >= self.threshold).tolist(), best.tolist(), strict=True)
        for row, (enough, place) in enumerate(pairs):
            if not enough:
                judged[row, 1] = float(self.misses_count)
            elif not difficult[place]:
                judged[row, int(place in taken)] = 1
                taken.add(place)
        return judged


def score(p: Message, certain: Tensor, share: Tensor) -> Tensor:
    """The score by ``p.score_type``, of objectness and the share of a class."""
    return {"OBJ": certain, "PROB": share}.get(enum_name(p, "score_type"), certain * share)


def table(rows: Tensor, objects: Objects, classes: int, room: int) -> Tensor:
    """The top's row of an image, (classes + 4 * room,).

    The number of objects of each class, then four values for each detection; zeros where there are
    fewer than ``room``, and none of those beyond.
    """
    import torch

    counted = objects.labels[~objects.difficult].long()
    counts = torch.bincount(counted[(counted >= 0) & (counted < classes)], minlength=classes)
    values = torch.zeros(room, 4)
    values[: min(len(rows), room)] = rows[:room]
    return torch.cat([counts.float(), values.flatten()])
