"""BboxAccuracy of Cascade R-CNN: how well regressed boxes overlap their objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, exactly, format_shape, register
from caffecompat.layers.forks.rcnn._pixel_boxes import decode, sizes
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import read_box_regression

if TYPE_CHECKING:
    from torch import Tensor

# Regions that are objects themselves do not count.
_OWN_BOX = 0.975


@register("BboxAccuracy", fork="Cascade R-CNN, MS-CNN")
class BboxAccuracy(Layer):
    """The mean overlap of moved regions with their objects, and of the regions themselves.

    Bottoms: deltas (R, 4C), or (R, 8) with ``bbox_reg_param`` ``cls_aware: false``; regions (R, 5);
    and matched objects (R, 6) with rows [class, x1, y1, x2, y2, overlap]. Tops: one number each,
    -1 without objects. Background does not count, nor do regions whose overlap is above 0.975. The
    sum is over the others. Source: bbox_accuracy_layer of Cascade R-CNN; MS-CNN's leaves the last
    pixel of a box out of its size.
    """

    bottoms = exactly(3)
    tops = between(1, 2)
    in_place = False
    differentiable = (False,)
    uses_host = True
    fork_fields = ("bbox_reg_param",)
    batch_coupling = "takes its mean over the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.regression = read_box_regression(self, message)
        self.count = len(message.top)

    def forward(
        self, deltas: Tensor, regions: Tensor, matched: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        rows = regions.shape[0]
        self.check(
            regions.numel() == 5 * rows
            and matched.numel() == 6 * rows
            and deltas.shape[0] == rows
            and deltas.numel() % (4 * max(rows, 1)) == 0,
            f"its bottoms are {format_shape(deltas.shape)}, {format_shape(regions.shape)} and "
            f"{format_shape(matched.shape)}; expected R x 4C, R x 5 and R x 6",
        )
        objects, boxes = matched.detach().reshape(rows, 6), regions.detach().reshape(rows, 5)[:, 1:]
        label = objects[:, 0].long()
        group = label if self.regression.per_class else label.clamp(max=1)
        moves = self.regression.original(deltas.detach().reshape(rows, -1), 1)
        every = decode(boxes, moves, inclusive=True).reshape(rows, -1, 4)
        chosen = group.clamp(0, every.shape[1] - 1)
        own = every.gather(1, chosen[:, None, None].expand(rows, 1, 4)).squeeze(1)
        counted = (label > 0) & (objects[:, 5] <= _OWN_BOX)
        tops = [
            self._mean(_overlap_of_pairs(found, objects[:, 1:5]), counted) for found in (own, boxes)
        ]
        return tops[0] if self.count == 1 else (tops[0], tops[1])

    def _mean(self, shared: Tensor, counted: Tensor) -> Tensor:
        mean = shared.where(counted, 0).sum() / counted.sum().clamp(min=1)
        return mean.masked_fill(~counted.any(), -1).reshape(1, 1, 1, 1)


def _overlap_of_pairs(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (R) of boxes (R, 4) with their partners (R, 4)."""
    import torch

    low = torch.maximum(first[:, :2], second[:, :2])
    high = torch.minimum(first[:, 2:], second[:, 2:])
    common = (high - low + 1).clamp(min=0).prod(1)
    areas = []
    for boxes in (first, second):
        wide, high_side = sizes(boxes)
        areas.append(wide * high_side)
    return common / (areas[0] + areas[1] - common)
