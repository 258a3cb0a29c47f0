"""BoxGroupOutput of Cascade R-CNN: proposals from maps of several strides and anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._base import (
    Layer,
    Message,
    Shape,
    at_least,
    between,
    format_shape,
    register,
)
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import (
    corner_overlaps,
    field_boxes,
    read_box_regression,
)
from caffecompat.layers.forks.rcnn.ms_cnn._output_rows import (
    OutputLimits,
    empty_tops,
    proposal_tops,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _Level:
    """The maps of one pair of bottoms: their stride, and the width and height of each anchor."""

    stride: int
    fields: tuple[tuple[int, int], ...]


@register("BoxGroupOutput", fork="Cascade R-CNN")
class BoxGroupOutput(Layer):
    """The best boxes of each image, from pairs of probabilities and deltas.

    Bottoms: for each stride probabilities (N * A, C, H, W), the background first, and deltas
    (N * A, 4, H, W), where the A anchors of an image follow each other. Tops: regions
    (K, 5, 1, 1) with rows [image, x1, y1, x2, y2], and perhaps rows (K, 6, 1, 1) with the score as
    last number.

    ``box_group_param`` gives the ``stride`` and the anchors' ``field_w`` and ``field_h`` of each
    pair; ``bbox_reg_param`` the normalisation of deltas, which are limited by ``field_xyr`` and
    ``field_whr``. The score is 1 - probability of the background. Boxes with a score of ``fg_thr``
    or more are cut at the map's edges; those smaller than ``min_size`` are dropped. Of the best
    ``max_nms_num`` those are dropped that overlap a better one by more than ``iou_thr``, and up to
    ``max_post_nms_num`` stay; 0 means all. ``nms_type`` IOMU divides by the smaller area, IOFU by
    that of the better box. Without boxes there is the region [0, 1, 1, 10, 10]. When the net is
    built the tops have one row. Of equal scores the earlier one is first; the original's order is
    not defined. Source: box_group_output_layer of Cascade R-CNN.
    """

    bottoms = at_least(2)
    tops = between(1, 2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("bbox_reg_param", "box_group_output_param")
    batch_coupling = "puts the boxes of all images of a batch together"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.box_group_output_param
        self.regression = read_box_regression(self, message)
        self.limits = OutputLimits.of(p)
        self.with_scores = len(message.top) > 1
        self.check(
            len(bottoms) == 2 * len(p.box_group_param),
            f"it has {len(bottoms)} bottoms and {len(p.box_group_param)} box_group_param; it needs "
            "two bottoms for each, probabilities and deltas",
        )
        for group in p.box_group_param:
            self.check(
                0 < len(group.field_w) == len(group.field_h),
                f"a box_group_param has {len(group.field_w)} field_w and {len(group.field_h)} "
                "field_h; it needs as many of each, and at least one",
            )
        self.levels = [
            _Level(group.stride, tuple(zip(group.field_w, group.field_h, strict=True)))
            for group in p.box_group_param
        ]

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        import torch

        images = self._images(bottoms)
        parts = [
            self._boxes(bottoms[2 * i].detach(), bottoms[2 * i + 1].detach(), level, images)
            for i, level in enumerate(self.levels)
        ]
        every = torch.cat(parts, 1)
        return proposal_tops([self._best(rows) for rows in every], self.with_scores)

    def infer(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self._images(bottoms)
        return empty_tops(bottoms[0], self.with_scores)

    def _images(self, bottoms: Sequence[Tensor]) -> int:
        images = bottoms[0].shape[0] // len(self.levels[0].fields)
        for i, level in enumerate(self.levels):
            found, deltas = bottoms[2 * i : 2 * i + 2]
            count = images * len(level.fields)
            self.check(
                found.dim() == 4
                and found.shape[0] == count
                and tuple(deltas.shape) == (count, 4, *found.shape[2:]),
                f"its bottoms are {format_shape(found.shape)} and {format_shape(deltas.shape)}; "
                f"{len(level.fields)} anchors need {count} maps, deltas with 4 channels",
            )
        return images

    def _boxes(self, found: Tensor, deltas: Tensor, level: _Level, images: int) -> Tensor:
        """(images, boxes, 6): x1, y1, x2, y2, score, and whether the box may stay."""
        import torch

        fields = deltas.new_tensor(level.fields).repeat(images, 1)
        limited = self.limits.bounds.limit(self.regression.original(deltas, 1))
        x, y, wide, high = field_boxes(limited, fields, level.stride).unbind(1)
        extent = (found.shape[3] * level.stride, found.shape[2] * level.stride)
        x1, y1 = x.clamp(min=0), y.clamp(min=0)
        x2, y2 = (x + wide - 1).clamp(max=extent[0]), (y + high - 1).clamp(max=extent[1])
        score = 1 - found[:, 0]
        stays = self.limits.stays(x2 - x1 + 1, y2 - y1 + 1, score)
        rows = torch.stack([x1, y1, x2, y2, score, stays], -1)
        return rows.reshape(images, -1, 6)

    def _best(self, rows: Tensor) -> Tensor:
        return self.limits.best(rows[rows[:, 5] > 0, :5], corner_overlaps)
