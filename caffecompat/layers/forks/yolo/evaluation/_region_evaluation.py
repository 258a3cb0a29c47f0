"""What the EvalDetection layers of YOLOv2 have in common."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, format_shape
from caffecompat.layers.forks.yolo._annotated_rows import has_annotated_rows, objects_in_rows
from caffecompat.layers.forks.yolo.evaluation._evaluation import (
    Detections,
    Objects,
    Verdicts,
    table,
)

if TYPE_CHECKING:
    from torch import Tensor

# Detections with a lower score do not count.
LEAST_SCORE = 0.005


class RegionEvaluation(Layer):
    """The base class of YOLOv2's EvalDetection layers.

    Bottoms: maps (N, num_object * (5 + num_class), S, S) as RegionLoss takes them, labels
    (1, 1, G, 8) of AnnotatedData, and others that are not read. Top: (N, num_class + 4 S S
    num_object).
    """

    bottoms = at_least(2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("eval_detection_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.eval_detection_param
        self.classes, self.anchors, self.side = int(p.num_class), int(p.num_object), int(p.side)
        self.check(
            len(p.biases) >= 2 * self.anchors > 0 and self.classes > 0,
            f"num_object is {self.anchors}, num_class {self.classes}, and there are "
            f"{len(p.biases)} biases; it needs classes, and two biases for each object",
        )
        self.check(
            p.nms >= 0, "nms is negative, with which the original finds nothing; give a threshold"
        )
        self.verdicts = Verdicts(p.threshold, misses_count=False)

    def found(self, boxes: Tensor, certain: Tensor, shares: Tensor) -> Detections:
        """The detections of an image, by falling score.

        Args:
            boxes: (K, 4); ``certain``: the sigmoids of objectness, (K,); ``shares``: those of the
            classes, (K, classes).
        """
        raise NotImplementedError

    def infer(self, x: Tensor, labels: Tensor, *others: Tensor) -> Tensor:
        self._check_shapes(x, labels)
        return x.new_empty((len(x), self.classes + 4 * self._room))

    def forward(self, x: Tensor, labels: Tensor, *others: Tensor) -> Tensor:
        import torch

        self._check_shapes(x, labels)
        truth = objects_in_rows(self, labels.detach().cpu().numpy(), len(x))
        cells = x.detach().float().cpu().permute(0, 2, 3, 1)
        cells = cells.reshape(len(x), self.side, self.side, self.anchors, -1)
        tops = []
        for image, values in enumerate(cells):
            rows = torch.from_numpy(truth[image]).float()
            objects = Objects(rows[:, 0], rows[:, 1:], torch.zeros(len(rows), dtype=torch.bool))
            found = self.found(
                self._boxes(values).reshape(-1, 4),
                values[..., 4].sigmoid().flatten(),
                values[..., 5:].softmax(-1).flatten(0, -2),
            )
            judged = self.verdicts.rows(found.grouped(), objects)
            tops.append(table(judged, objects, self.classes, self._room))
        return torch.stack(tops).to(x)

    @property
    def _room(self) -> int:
        return self.side * self.side * self.anchors

    def _boxes(self, values: Tensor) -> Tensor:
        """Boxes (S, S, num_object, 4) of the values (S, S, num_object, 5 + classes)."""
        import torch

        biases = torch.tensor(self.p.biases[: 2 * self.anchors]).reshape(-1, 2)
        at = torch.arange(self.side, dtype=values.dtype)
        x = at[None, :, None] + values[..., 0].sigmoid()
        y = at[:, None, None] + values[..., 1].sigmoid()
        size = values[..., 2:4].exp() * biases
        return torch.cat([torch.stack([x, y], -1), size], -1) / self.side

    def _check_shapes(self, x: Tensor, labels: Tensor) -> None:
        wanted = (self.anchors * (5 + self.classes), self.side, self.side)
        self.check(
            tuple(x.shape[1:]) == wanted and has_annotated_rows(labels.shape),
            f"its bottoms are {format_shape(x.shape)} and {format_shape(labels.shape)}; expected "
            f"Nx{format_shape(wanted)}, {prod(wanted)} values, and labels (1, 1, objects, 8)",
        )
