"""Which boxes are proposals, and those of all images of a batch as tops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from caffecompat.layers._base import Message
from caffecompat.layers.forks._suppression import suppress
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import FieldBounds

if TYPE_CHECKING:
    from torch import Tensor

    Overlaps: TypeAlias = Callable[[str, Tensor, Tensor], Tensor]

# What follows when there is no box: one region that any image has.
_NO_BOX = (0.0, 1.0, 1.0, 10.0, 10.0)


@dataclass(frozen=True)
class OutputLimits:
    """Which boxes MS-CNN's and Cascade R-CNN's output layers keep.

    Attributes:
        bounds: the limits of deltas.
        least_score: boxes with a lower score are dropped.
        least_size: boxes with a smaller width or height are dropped.
        before, after: the number of boxes before and after suppression; 0 for all.
        threshold: the overlap above which a box is dropped for a better one.
        kind: what an overlap is divided by: IOU, IOMU or IOFU.
    """

    bounds: FieldBounds
    least_score: float
    least_size: float
    before: int
    after: int
    threshold: float
    kind: str

    @classmethod
    def of(cls, p: Message) -> OutputLimits:
        """Those in a BoxOutputParameter or BoxGroupOutputParameter."""
        return cls(
            bounds=FieldBounds(p.field_xyr, p.field_whr),
            least_score=p.fg_thr,
            least_size=p.min_size,
            before=p.max_nms_num,
            after=p.max_post_nms_num,
            threshold=p.iou_thr,
            kind=str(p.nms_type),
        )

    def stays(self, wide: Tensor, high: Tensor, score: Tensor) -> Tensor:
        """1 for boxes that are large and good enough, 0 for others, as ``score``."""
        large = (wide >= self.least_size) & (high >= self.least_size)
        return (large & (score >= self.least_score)).to(score)

    def best(self, boxes: Tensor, overlaps: Overlaps) -> Tensor:
        """The boxes (K, 5) that stay of (R, 5), by falling score, their last number.

        Args:
            overlaps: of the kind, boxes (M, 4) and boxes (N, 4), (M, N).
        """
        order = boxes[:, 4].argsort(descending=True, stable=True)
        boxes = boxes[order[: self.before] if self.before else order]
        return boxes[
            suppress(
                boxes[:, :4], lambda a, b: overlaps(self.kind, a, b) > self.threshold, self.after
            )
        ]


def proposal_tops(found: Sequence[Tensor], with_scores: bool) -> Tensor | tuple[Tensor, Tensor]:
    """Regions (K, 5, 1, 1), and perhaps rows (K, 6, 1, 1) that have their scores too.

    Args:
        found: for each image (K_i, 5): x1, y1, x2, y2, score.
    """
    import torch

    rows = [
        torch.cat([boxes.new_full((len(boxes), 1), image), boxes], 1)
        for image, boxes in enumerate(found)
    ]
    every = torch.cat(rows)
    regions = every[:, :5] if len(every) else every.new_tensor([_NO_BOX])
    if not with_scores:
        return regions.reshape(-1, 5, 1, 1)
    scored = every if len(every) else every.new_zeros(1, 6)
    return regions.reshape(-1, 5, 1, 1), scored.reshape(-1, 6, 1, 1)


def empty_tops(like: Tensor, with_scores: bool) -> Tensor | tuple[Tensor, Tensor]:
    """Tops with one row, for the shapes of a net that is built."""
    regions = like.new_empty(1, 5, 1, 1)
    return (regions, like.new_empty(1, 6, 1, 1)) if with_scores else regions
