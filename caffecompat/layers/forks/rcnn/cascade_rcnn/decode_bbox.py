"""DecodeBBox of Cascade R-CNN: regions moved by their deltas, the regions of the next stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers.forks.rcnn._pixel_boxes import decode
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import read_box_regression

if TYPE_CHECKING:
    from torch import Tensor


@register("DecodeBBox", fork="Cascade R-CNN, MS-CNN")
class DecodeBBox(Layer):
    """Regions moved by the second four of eight deltas, which are those of objects.

    Bottoms: deltas (R, 8), regions (R, 5) with rows [image, x1, y1, x2, y2], and in TRAIN perhaps
    matched objects (R, 6), of which the last number is the overlap. Top: (K, 5, 1, 1).

    ``bbox_reg_param`` has the means and deviations by which deltas are normalised. In TEST K is R;
    in TRAIN boxes that end before they begin are left out, and so are those whose overlap is
    ``gt_iou_thr`` or more. When the net is built the top has R rows. No gradients. Source:
    decode_bbox_layer of Cascade R-CNN.
    """

    bottoms = between(2, 3)
    in_place = False
    differentiable = (False,)
    fork_fields = ("bbox_reg_param", "decode_bbox_param")
    batch_coupling = "leaves out regions of the batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.regression = read_box_regression(self, message)
        self.threshold = float(message.decode_bbox_param.gt_iou_thr)
        self.check(
            len(bottoms) == 2 or self.training,
            "its third bottom, the matched objects, is for phase TRAIN only",
        )

    def forward(self, deltas: Tensor, regions: Tensor, *matched: Tensor) -> Tensor:
        self._check_shapes(deltas, regions)
        rows = regions.detach().reshape(-1, 5)
        own = deltas.detach().reshape(-1, 8)[:, 4:]
        boxes = decode(rows[:, 1:], self.regression.original(own, 1), inclusive=True)
        moved = rows.clone()
        moved[:, 1:] = boxes
        if self.training:
            kept = (boxes[:, 2:] >= boxes[:, :2]).all(1)
            if matched:
                found = matched[0].detach().reshape(len(rows), -1)[:, -1]
                kept = kept & (found < self.threshold)
            moved = moved[kept]
            self.check(len(moved) > 0, "no region is left for the next stage")
        return moved.reshape(-1, 5, 1, 1)

    def infer(self, deltas: Tensor, regions: Tensor, *matched: Tensor) -> Tensor:
        self._check_shapes(deltas, regions)
        return regions.new_empty(regions.shape[0], 5, 1, 1)

    def _check_shapes(self, deltas: Tensor, regions: Tensor) -> None:
        rows = regions.shape[0]
        self.check(
            regions.numel() == 5 * rows and deltas.numel() == 8 * rows,
            f"its bottoms are {format_shape(deltas.shape)} and {format_shape(regions.shape)}; "
            "expected deltas R x 8 and regions R x 5",
        )
