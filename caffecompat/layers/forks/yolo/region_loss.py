"""RegionLoss: the loss of YOLOv2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.yolo._annotated_rows import has_annotated_rows, objects_in_rows
from caffecompat.layers.forks.yolo._loss_gradient import (
    best_overlaps,
    objects_of,
    overlaps,
    sigmoid,
    squares,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_COORDINATES = 4


@register("RegionLoss", fork="MobileNet-YOLO, YOLOv2, YOLO9000, Intel")
class RegionLoss(Loss):
    """The loss of square maps (N, num * (5 + num_class), S, S), and objects in the images.

    The channels of an anchor are x, y, width, height, objectness and classes. The shape of the
    second bottom tells whose definition is meant. MobileNet-YOLO's has rows [class, x, y, width,
    height] for each image, relative to its size, in any shape (N, ...); an x of 0 ends the list.
    The loss is the sum of squares of these differences by N, and they are also its gradient, times
    1 / N:

    ``noobject_scale`` times o^2 (1 - o) at each objectness, o its sigmoid, unless the box overlaps
    an object by more than ``thresh``. For each object, at the cell of its centre and the anchor of
    its shape (with ``bias_match``; else the predicted shape that is nearest): ``coord_scale`` times
    the differences of box coordinates, ``object_scale`` times that of objectness and the box's
    overlap (1 without ``rescore``, and coord_scale then counts 2 - area times), and ``class_scale``
    times that of the softmax. A later object replaces an earlier one of the same cell and anchor.

    Labels (1, 1, G, 8) as AnnotatedData gives them, whose class 0 is the background, mean the
    definition of YOLO9000 and Intel. There the differences of box coordinates before their factors
    are limited to -1 and 1, that of objectness o is ``object_scale`` times 2 o (1 - o)^4,
    ``rescore`` has no effect, and the loss is the sum of squares without 1 / N, which the gradient
    has. Objects without an area are left out.

    ``softmax_tree``, ``class_map`` and values of ``coords`` other than 4 are refused; ``side`` is
    that of the map; ``jitter``, ``absolute`` and ``random`` have no effect, nor has ``softmax``.
    Source: region_loss_layer of MobileNet-YOLO, of caffe-yolo9000 and of Intel's Caffe.
    """

    fork_fields = ("region_loss_param",)
    uses_host = True
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.region_loss_param
        self.check(
            not p.softmax_tree and not p.class_map and p.coords == _COORDINATES,
            "softmax_tree, class_map and coords other than 4 are not supported",
        )
        self.check(
            p.num > 0 and len(p.biases) >= 2 * p.num,
            f"num is {p.num} and there are {len(p.biases)} biases; it needs two for each anchor",
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        p = self.p
        wanted = p.num * (5 + p.num_class)
        annotated = has_annotated_rows(labels.shape)
        listed = labels.shape[:1] == x.shape[:1] and labels.numel() % (5 * max(len(x), 1)) == 0
        self.check(
            x.dim() == 4
            and x.shape[1] == wanted
            and x.shape[2] == x.shape[3]
            and (annotated or listed),
            f"its bottoms are {format_shape(x.shape)} and {format_shape(labels.shape)}; expected "
            f"square maps with {wanted} channels, and labels (1, 1, objects, 8), or for each of "
            f"the {len(x)} images five numbers for each object",
        )
        if x.is_meta:
            return x.new_empty(())
        cells = x.detach().cpu().numpy().reshape(len(x), p.num, -1, *x.shape[2:])
        truth = labels.detach().cpu().numpy()
        images = range(len(x))
        if annotated:
            objects = objects_in_rows(self, truth, len(x))
        else:
            objects = [objects_of(truth, image, len(x)) for image in images]
        found = self._differences(cells, objects, annotated)
        return squares(x, found.reshape(tuple(x.shape)), divided=not annotated)

    def _differences(
        self, cells: np.ndarray, truth: Sequence[np.ndarray], annotated: bool
    ) -> np.ndarray:
        """The differences, as the cells (N, num, 5 + classes, S, S)."""
        import numpy as np

        differences = np.zeros_like(cells)
        side = cells.shape[-1]
        biases = np.asarray(self.p.biases, cells.dtype)[: 2 * self.p.num].reshape(-1, 2)
        for image, values in enumerate(cells):
            objects = truth[image]
            boxes = _boxes(values, biases)
            certain = sigmoid(values[:, 4])
            away = best_overlaps(boxes, objects[:, 1:]) <= self.p.thresh
            differences[image, :, 4] = (
                self.p.noobject_scale * certain * certain * (1 - certain) * away
            )
            for row in objects:
                column, line = (min(int(value * side), side - 1) for value in row[1:3])
                shapes = biases / side if self.p.bias_match else boxes[:, line, column, 2:]
                still = np.concatenate([np.zeros_like(shapes), shapes], 1)
                anchor = int(overlaps(still, np.array([0, 0, *row[3:]], cells.dtype)).argmax())
                cell = values[anchor, :, line, column]
                off, slope = _coordinates(cell, row, (column, line, side), biases[anchor])
                of_object = self._of_annotated if annotated else self._of_listed
                moved, lacking = of_object(off, sigmoid(cell[4]), row, boxes[anchor, line, column])
                differences[image, anchor, :, line, column] = np.concatenate(
                    [-moved * slope, [-lacking], self.p.class_scale * _class_differences(cell, row)]
                )
        return differences

    def _of_listed(
        self, off: np.ndarray, certain: np.ndarray, row: np.ndarray, box: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """How far box (4,) and objectness are off, times their factors."""
        p = self.p
        scale = p.coord_scale if p.rescore else p.coord_scale * (2 - row[3] * row[4])
        aim = overlaps(box, row[1:5]) if p.rescore else 1
        return scale * off, p.object_scale * (aim - certain) * certain * (1 - certain)

    def _of_annotated(
        self, off: np.ndarray, certain: np.ndarray, row: np.ndarray, box: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`_of_listed` in the definition of YOLO9000 and Intel."""
        p = self.p
        return p.coord_scale * off.clip(-1, 1), p.object_scale * 2 * (1 - certain) ** 4 * certain


def _coordinates(
    values: np.ndarray, row: np.ndarray, cell: tuple[int, int, int], bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far x, y, width and height are off, and the slopes of what is compared."""
    import numpy as np

    column, line, side = cell
    centre = sigmoid(values[:2])
    place = np.array([row[1] * side - column, row[2] * side - line])
    size = np.log(row[3:5] * side / bias)
    off = np.concatenate([place - centre, size - values[2:4]])
    return off, np.concatenate([centre * (1 - centre), np.ones_like(centre)])


def _class_differences(values: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The shares of the classes after a softmax, less 1 for that of the object."""
    import numpy as np

    shares = np.exp(values[5:] - values[5:].max())
    shares /= shares.sum()
    found: np.ndarray = shares - (np.arange(len(shares)) == int(row[0]))
    return found


def _boxes(values: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Boxes (num, S, S, 4) of an image from its cells (num, 5 + classes, S, S)."""
    import numpy as np

    side = values.shape[-1]
    at = np.arange(side)
    x = (at + sigmoid(values[:, 0])) / side
    y = (at[:, None] + sigmoid(values[:, 1])) / side
    wide, high = (np.exp(values[:, 2 + k]) * biases[:, k, None, None] / side for k in range(2))
    return np.stack([x, y, wide, high], -1)
