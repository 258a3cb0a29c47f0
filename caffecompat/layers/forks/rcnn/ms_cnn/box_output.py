"""BoxOutput of MS-CNN: proposals from maps of several strides."""

from __future__ import annotations

from collections.abc import Sequence
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
    field_boxes,
    read_box_regression,
    size_overlaps,
)
from caffecompat.layers.forks.rcnn.ms_cnn._output_rows import (
    OutputLimits,
    empty_tops,
    proposal_tops,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("BoxOutput", fork="MS-CNN")
class BoxOutput(Layer):
    """The best boxes of each image, from maps of class scores and deltas.

    Bottoms: for each stride (N, C + 4, H, W), scores of C classes, the background first, and four
    deltas. Tops: regions (K, 5, 1, 1) with rows [image, x1, y1, x2, y2], and perhaps rows
    (K, 6, 1, 1) with the score as last number.

    ``field_w``, ``field_h`` and ``downsample_rate`` give the anchor and the stride of each bottom;
    ``bbox_reg_param`` the normalisation of deltas, which are limited by ``field_xyr`` and
    ``field_whr``. The score is the largest of the other classes less that of the background. Boxes
    with a score of ``fg_thr`` or more are cut at the map's edges; those smaller than ``min_size``
    are dropped. Of the best ``max_nms_num`` those are dropped that overlap a better one by more
    than ``iou_thr``, and up to ``max_post_nms_num`` stay; 0 means all. ``nms_type`` IOMU divides by
    the smaller area, IOFU by that of the better box. Without boxes there is the region
    [0, 1, 1, 10, 10]. Of equal scores the last one is first. When the net is built the tops have
    one row. Source: box_output_layer of MS-CNN.
    """

    bottoms = at_least(1)
    tops = between(1, 2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("bbox_reg_param", "box_output_param")
    batch_coupling = "puts the boxes of all images of a batch together"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.box_output_param
        self.regression = read_box_regression(self, message)
        self.limits = OutputLimits.of(p)
        self.with_scores = len(message.top) > 1
        counts = (len(p.field_w), len(p.field_h), len(p.downsample_rate))
        self.check(
            set(counts) == {len(bottoms)},
            f"it has {len(bottoms)} bottoms, but {counts[0]} field_w, {counts[1]} field_h and "
            f"{counts[2]} downsample_rate values; it needs one of each for each bottom",
        )
        self.levels = list(zip(p.field_w, p.field_h, p.downsample_rate, strict=True))

    def forward(self, *maps: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        import torch

        self._check_maps(maps)
        pairs = zip(maps, self.levels, strict=True)
        every = torch.cat([self._boxes(values.detach(), *level) for values, level in pairs], 1)
        return proposal_tops([self._best(rows) for rows in every], self.with_scores)

    def infer(self, *maps: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self._check_maps(maps)
        return empty_tops(maps[0], self.with_scores)

    def _check_maps(self, maps: Sequence[Tensor]) -> None:
        for values in maps:
            self.check(
                values.dim() == 4 and values.shape[:2] == maps[0].shape[:2] and values.shape[1] > 5,
                f"a bottom is {format_shape(values.shape)}; expected N x (classes + 4) x H x W "
                "with two classes at least, and equally many in all bottoms",
            )

    def _boxes(self, values: Tensor, field_w: int, field_h: int, stride: int) -> Tensor:
        """(N, boxes, 6): x, y, width, height, score, and whether the box may stay."""
        import torch

        scores, deltas = values[:, :-4], values[:, -4:]
        fields = values.new_tensor([[field_w, field_h]]).expand(len(values), 2)
        limited = self.limits.bounds.limit(self.regression.original(deltas, 1))
        x, y, wide, high = field_boxes(limited, fields, stride).unbind(1)
        x, y = x.clamp(min=0), y.clamp(min=0)
        wide = torch.minimum(wide, values.shape[3] * stride - x)
        high = torch.minimum(high, values.shape[2] * stride - y)
        score = scores[:, 1:].amax(1) - scores[:, 0]
        stays = self.limits.stays(wide, high, score)
        return torch.stack([x, y, wide, high, score, stays], -1).flatten(1, 2)

    def _best(self, rows: Tensor) -> Tensor:
        import torch

        boxes = self.limits.best(rows[rows[:, 5] > 0, :5].flip(0), size_overlaps)
        start, size, score = boxes[:, :2], boxes[:, 2:4], boxes[:, 4:]
        return torch.cat([start, start + size, score], 1)
