"""EvalDetection of YOLOv1: the detections of a grid of cells, and which are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers.forks.yolo.evaluation._evaluation import (
    Detections,
    Objects,
    Verdicts,
    score,
    table,
)

if TYPE_CHECKING:
    from torch import Tensor

# Values of a cell in the labels: difficult, whether there is an object, its class, its box.
_OF_CELL = 1 + 1 + 1 + 4


@register("EvalDetection", fork="YOLOv1")
class EvalDetectionOfGrid(Layer):
    """For each image the number of objects of each class, then the detections.

    Bottoms, both (N, ...) with P = side * side cells: predictions of num_class * P shares, of
    num_object * P scores, then x, y, width and height of each of num_object boxes, P values each;
    and labels: P flags of difficult objects, P flags of cells with an object, P classes, and P
    boxes of four values. Top: (N, num_class + 4 P num_object): counts of objects that are not
    difficult, then rows [class, score, true, false] by class and falling score, and zeros.

    A box has the most likely class of its cell. Its score is the product of that share and the
    box's score, or one of them (``score_type``). x and y are relative to the cell with
    ``constriant`` (its spelling), else to the image; width and height are squared with ``sqrt``.
    With ``nms`` 0 or more, boxes that overlap a better one by it are dropped, whatever their
    classes. A detection is true if the object of its class that it overlaps most overlaps it by
    ``threshold`` and is not taken, neither if that object is difficult, and false otherwise.
    Source: eval_detection_layer of YOLOv1 in Caffe.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("eval_detection_param",)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        return not message.eval_detection_param.biases

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.eval_detection_param
        self.cells = int(p.side) ** 2
        self.classes, self.boxes = int(p.num_class), int(p.num_object)
        self.check(
            min(self.cells, self.classes, self.boxes) > 0,
            "side, num_class and num_object must be positive",
        )
        self.verdicts = Verdicts(p.threshold, misses_count=True)

    def infer(self, x: Tensor, labels: Tensor) -> Tensor:
        self._check_shapes(x, labels)
        return x.new_empty((len(x), self.classes + 4 * self.cells * self.boxes))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        import torch

        self._check_shapes(x, labels)
        values, truth = (one.detach().float().cpu().flatten(1) for one in (x, labels))
        tops = []
        for row, own in zip(values, truth, strict=True):
            objects = self._objects(own)
            judged = self.verdicts.rows(self._found(row).grouped(), objects)
            tops.append(table(judged, objects, self.classes, self.cells * self.boxes))
        return torch.stack(tops).to(x)

    def _objects(self, row: Tensor) -> Objects:
        difficult, there, labels = row[: 3 * self.cells].reshape(3, -1)
        boxes = row[3 * self.cells :].reshape(-1, 4)
        whole = there != 0
        return Objects(labels[whole].trunc(), boxes[whole], difficult[whole] == 1)

    def _found(self, row: Tensor) -> Detections:
        cells = row.reshape(-1, self.cells)
        share, label = cells[: self.classes].max(0)
        certain = cells[self.classes : self.classes + self.boxes]
        share, label = (one.expand(self.boxes, -1) for one in (share, label))
        scores = score(self.p, certain, share)
        boxes = self._boxes(cells[self.classes + self.boxes :])
        # In the original's order: cell by cell.
        found = Detections(label.T.flatten(), scores.T.flatten(), boxes.reshape(-1, 4))
        found = found.sorted()
        return found.suppressed(self.p.nms) if self.p.nms >= 0 else found

    def _boxes(self, values: Tensor) -> Tensor:
        """Boxes (cells, num_object, 4) of the values (num_object * 4, cells)."""
        import torch

        side = int(self.p.side)
        x, y, width, height = values.reshape(self.boxes, 4, self.cells).permute(1, 2, 0)
        if self.p.constriant:
            at = torch.arange(self.cells)[:, None]
            x, y = (at % side + x) / side, (at // side + y) / side
        if self.p.sqrt:
            width, height = width**2, height**2
        return torch.stack([x, y, width, height], -1)

    def _check_shapes(self, x: Tensor, labels: Tensor) -> None:
        wanted = self.cells * (self.classes + 5 * self.boxes), self.cells * _OF_CELL
        given = [one[:1].numel() for one in (x, labels)]
        self.check(
            given == list(wanted) and len(x) == len(labels),
            f"its bottoms are {format_shape(x.shape)} and {format_shape(labels.shape)}; expected "
            f"{wanted[0]} predictions and {wanted[1]} label values for each image",
        )
