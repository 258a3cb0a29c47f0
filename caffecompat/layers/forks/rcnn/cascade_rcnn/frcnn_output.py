"""FrcnnOutput of Cascade R-CNN: the detections of one image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers.forks._suppression import suppress
from caffecompat.layers.forks.rcnn._pixel_boxes import decode
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import (
    corner_overlaps,
    read_box_regression,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("FrcnnOutput", fork="Cascade R-CNN")
class FrcnnOutput(Layer):
    """Detections (K + 1, 7, 1, 1): rows [0, x1, y1, x2, y2, class, score] after one of [0, -1 ...].

    Bottoms: probabilities (R, C), the background first; deltas (R, 4C), or (R, 8) with
    ``bbox_reg_param`` ``cls_aware: false``; regions (R, 5) or (R, 6), all of image 0; and the
    image's [height, width].

    ``bbox_reg_param`` has the means and deviations by which deltas are normalised. Boxes are cut at
    the image's edges. For each class those with a probability of ``conf_thr`` or more stay,
    without those that overlap a better one by more than ``iou_thr``, and of all classes the best
    ``max_det_num``; 0 means all. Rows are in order of classes. ``nms_type`` IOMU divides by the
    smaller area, IOFU by that of the better box. Of equal scores the earlier one is first. When the
    net is built the top has one row. No files are written. Source: frcnn_output_layer of Cascade
    R-CNN.
    """

    bottoms = exactly(4)
    in_place = False
    differentiable = (False,)
    fork_fields = ("bbox_reg_param", "frcnn_output_param")
    batch_coupling = "takes one image, not a batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.frcnn_output_param
        self.regression = read_box_regression(self, message)
        self.least, self.most = float(p.conf_thr), int(p.max_det_num)
        self.threshold, self.kind = float(p.iou_thr), str(p.nms_type)
        if p.save_output_param.output_directory:
            self.note("save_output_param has no effect: no files are written")

    def forward(self, found: Tensor, deltas: Tensor, regions: Tensor, size: Tensor) -> Tensor:
        import torch

        self._check_shapes(found, deltas, regions)
        rows = len(found)
        boxes = regions.detach().reshape(rows, -1)[:, 1:5]
        moves = self.regression.original(deltas.detach().reshape(rows, -1), 1)
        every = decode(boxes, moves, inclusive=True).reshape(rows, -1, 4)
        height, width = size.detach().reshape(-1)[:2]
        most = torch.stack([width, height])
        low, high = every[..., :2].clamp(min=0), torch.minimum(every[..., 2:], most)
        every = torch.cat([low, high], 2)
        scores = found.detach().reshape(rows, -1)
        parts = [
            self._best(every[:, c if self.regression.per_class else 1], scores[:, c], c)
            for c in range(1, scores.shape[1])
        ]
        kept = torch.cat(parts) if parts else scores.new_zeros(0, 7)
        if 0 < self.most < len(kept):
            chosen = kept[:, 6].argsort(descending=True, stable=True)[: self.most]
            kept = kept[chosen]
            kept = kept[kept[:, 5].argsort(stable=True)]
        first = kept.new_tensor([[0, *[-1] * 6]])
        return torch.cat([first, kept]).reshape(-1, 7, 1, 1)

    def infer(self, found: Tensor, deltas: Tensor, regions: Tensor, size: Tensor) -> Tensor:
        self._check_shapes(found, deltas, regions)
        return found.new_empty(1, 7, 1, 1)

    def _check_shapes(self, found: Tensor, deltas: Tensor, regions: Tensor) -> None:
        rows = found.shape[0]
        classes = found[0].numel() if rows else 1
        wide = 4 * classes if self.regression.per_class else 8
        self.check(
            deltas.numel() == rows * wide and regions.numel() in (5 * rows, 6 * rows),
            f"its bottoms are {format_shape(found.shape)}, {format_shape(deltas.shape)} and "
            f"{format_shape(regions.shape)}; expected R x C, R x {wide} and R x 5 or R x 6",
        )

    def _best(self, boxes: Tensor, scores: Tensor, label: int) -> Tensor:
        import torch

        kept = scores >= self.least
        boxes, scores = boxes[kept], scores[kept]
        order = scores.argsort(descending=True, stable=True)
        boxes, scores = boxes[order], scores[order]
        overlap = partial(corner_overlaps, self.kind)
        stays = suppress(boxes, lambda a, b: overlap(a, b) > self.threshold)
        count = len(stays)
        image, name = scores.new_zeros(count, 1), scores.new_full((count, 1), label)
        return torch.cat([image, boxes[stays], name, scores[stays, None]], 1)
