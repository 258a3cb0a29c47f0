"""Proposals of a region proposal network: anchors moved by deltas, the best ones kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, between, format_shape
from caffecompat.layers.forks.rcnn._anchors import anchors_of_map, by_position
from caffecompat.layers.forks.rcnn._one_image import OneImage
from caffecompat.layers.forks.rcnn._pixel_boxes import clip, decode, sizes, suppress

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ProposalSettings:
    """How proposals are made.

    Attributes:
        anchors: those of the first position, see ``base_anchors``.
        stride: pixels of the image between positions of the map.
        before, after: the number of boxes before and after suppression; 0 for all.
        threshold: the overlap above which a box is dropped for a better one.
        least: the smallest width and height, multiplied by the image's scale.
        drops_small: boxes that are too small are dropped; otherwise their score becomes 0.
        two_scales: a fourth number of the image's facts is the scale of its width.
    """

    anchors: Sequence[Sequence[float]]
    stride: float
    before: int
    after: int
    threshold: float
    least: float
    drops_small: bool = True
    two_scales: bool = False


def check_maps(layer: Layer, scores: Tensor, deltas: Tensor, info: Tensor, anchors: int) -> None:
    """Refuses bottoms other than (1, 2A, H, W), (1, 4A, H, W) and at least three numbers."""
    layer.check(
        scores.dim() == 4 and scores.shape[0] == 1,
        f"its scores are {format_shape(scores.shape)}; expected 1 x {2 * anchors} x H x W, "
        "a batch of one image",
    )
    wanted = (1, 4 * anchors, *scores.shape[2:])
    layer.check(
        scores.shape[1] == 2 * anchors and tuple(deltas.shape) == wanted,
        f"its scores are {format_shape(scores.shape)} and its deltas "
        f"{format_shape(deltas.shape)}; {anchors} anchors need {2 * anchors} and {4 * anchors} "
        "channels in maps of one size",
    )
    layer.check(
        info.numel() >= 3,
        f"its third bottom is {format_shape(info.shape)}, expected [height, width, scale] of the "
        "image",
    )


class ImageProposals(OneImage):
    """The base of layers whose tops are proposals (R, 5) of one image, and perhaps their scores.

    Bottoms: scores (1, 2A, H, W), deltas (1, 4A, H, W), [height, width, scale] of the image, and
    perhaps one that is not used.

    Attributes:
        made: how proposals are made; ``setup`` sets it.
        with_scores: whether there is a second top; ``setup`` sets it.
        rows_when_built: R when the net is built.
        score_axes: those of a score: none, or one of extent 1.
    """

    bottoms = between(3, 4)
    tops = between(1, 2)
    made: ProposalSettings
    with_scores: bool
    score_axes: tuple[int, ...] = (1,)

    @property
    def rows_when_built(self) -> int:
        return 1

    def forward(
        self, scores: Tensor, deltas: Tensor, info: Tensor, *unused: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        check_maps(self, scores, deltas, info, len(self.made.anchors))
        rows, found = proposals(scores, deltas, info, self.made)
        return (rows, found.reshape(-1, *self.score_axes)) if self.with_scores else rows

    def infer(
        self, scores: Tensor, deltas: Tensor, info: Tensor, *unused: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        check_maps(self, scores, deltas, info, len(self.made.anchors))
        count = self.rows_when_built
        rows = scores.new_empty(count, 5)
        return (rows, scores.new_empty(count, *self.score_axes)) if self.with_scores else rows


def proposals(
    scores: Tensor, deltas: Tensor, info: Tensor, settings: ProposalSettings
) -> tuple[Tensor, Tensor]:
    """The best boxes of an image (R, 5), rows [0, x1, y1, x2, y2], and their scores (R).

    Args:
        scores: (1, 2A, H, W); the second half of the channels are those of objects.
        deltas: (1, 4A, H, W), (dx, dy, dw, dh) for each anchor.
        info: height and width of the image, its scale, and perhaps a scale of its width.
    """
    import torch

    count = len(settings.anchors)
    height, width = scores.shape[2:]
    found = scores.detach()[:, count:]
    score = by_position(found, 1).squeeze(1)
    anchors = anchors_of_map(settings.anchors, height, width, settings.stride, found)
    numbers = info.detach().reshape(-1)
    boxes = clip(decode(anchors, by_position(deltas.detach(), 4)), numbers[0], numbers[1])
    wide, high = sizes(boxes)
    scale_wide = numbers[3] if settings.two_scales and numbers.numel() > 3 else numbers[2]
    large = (wide >= settings.least * scale_wide) & (high >= settings.least * numbers[2])
    if settings.drops_small:
        boxes, score = boxes[large], score[large]
    else:
        score = score * large
    order = score.argsort(descending=True, stable=True)
    order = order[: settings.before] if settings.before > 0 else order
    boxes, score = boxes[order], score[order]
    kept = suppress(boxes, settings.threshold, settings.after)
    rows = torch.nn.functional.pad(boxes[kept], (1, 0))
    return rows, score[kept]
