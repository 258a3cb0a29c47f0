"""Yolov3 of MobileNet-YOLO: the loss of YOLOv3 for one map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.yolo._loss_gradient import (
    best_overlaps,
    objects_of,
    overlaps,
    sigmoid,
    squares,
)
from caffecompat.proto.schema import enum_name

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@register("Yolov3", fork="MobileNet-YOLO")
class Yolov3(Loss):
    """The loss of maps (N, num * (5 + num_class), H, W), and objects in the images.

    The channels of an anchor are x, y, width, height, objectness and classes. The second bottom has
    rows [class, x, y, width, height] for each image, relative to its size, in any shape; an x of 0
    ends the list. ``biases`` are sizes of all anchors in pixels of an image of W and H times
    ``anchors_scale``; ``mask`` lists those of this map. The loss is the sum of squares of these
    differences by N; they are also its gradient, times 1 / N, and with ``use_logic_gradient`` times
    the derivative of the sigmoid where there is one:

    o, the sigmoid of each objectness, unless the box overlaps an object by more than ``thresh``.
    For each object whose shape is nearest to an anchor of this map, or overlaps one by more than
    ``iou_thresh``, at the cell of its centre: ``coord_scale`` * (2 - area) times the differences of
    coordinates, o - 1 (times ``object_scale`` with use_logic_gradient), and ``class_scale`` times
    those of the classes' sigmoids, with labels smoothed by ``label_smooth_eps``. A later object of
    the same cell and anchor replaces coordinates, and adds its class.

    ``iou_loss`` must be MSE, its default; ``use_focal_loss`` is not supported. Source: yolov3_layer
    of MobileNet-YOLO.
    """

    fork_fields = ("yolov3_param",)
    uses_host = True
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.yolov3_param
        kind = enum_name(p, "iou_loss")
        self.check(kind == "MSE", f"iou_loss {kind} is not supported, only MSE")
        self.check(not p.use_focal_loss, "use_focal_loss is not supported")
        self.check(
            p.num > 0
            and len(p.mask) >= p.num
            and len(p.biases) > 0
            and all(2 * at + 1 < len(p.biases) for at in p.mask),
            f"num is {p.num}, and there are {len(p.mask)} mask values and {len(p.biases)} biases; "
            "mask needs num anchors, and biases two numbers for each",
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        p = self.p
        wanted = p.num * (5 + p.num_class)
        self.check(
            x.dim() == 4
            and x.shape[1] == wanted
            and labels.shape[0] == x.shape[0]
            and labels.numel() % (5 * max(len(x), 1)) == 0,
            f"its bottoms are {format_shape(x.shape)} and {format_shape(labels.shape)}; expected "
            f"maps with {wanted} channels, and five numbers for each object",
        )
        if x.is_meta:
            return x.new_empty(())
        cells = x.detach().cpu().numpy().reshape(len(x), p.num, -1, *x.shape[2:])
        truth = labels.detach().cpu().numpy()
        differences = self._differences(cells, truth)
        loss = squares(x, differences.reshape(tuple(x.shape)))
        if not p.use_logic_gradient:
            return loss
        slopes = sigmoid(cells) * (1 - sigmoid(cells))
        slopes[:, :, 2:4] = 1
        passed = squares(x, (differences * slopes).reshape(tuple(x.shape)))
        return loss.detach() + passed - passed.detach()

    def _differences(self, cells: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The differences, as the cells (N, num, 5 + classes, H, W)."""
        import numpy as np

        p = self.p
        differences = np.zeros_like(cells)
        height, width = cells.shape[-2:]
        image_size = np.array([width, height]) * p.anchors_scale
        anchors = np.asarray(p.biases, cells.dtype).reshape(-1, 2)
        own = anchors[list(p.mask)[: p.num]]
        for image, values in enumerate(cells):
            objects = objects_of(labels, image, len(cells))
            boxes = _boxes(values, own / image_size)
            away = best_overlaps(boxes, objects[:, 1:]) <= p.thresh
            differences[image, :, 4] = sigmoid(values[:, 4]) * away
            for row in objects:
                column, line = int(row[1] * width), int(row[2] * height)
                column, line = min(column, width - 1), min(line, height - 1)
                place = np.array([row[1] * width - column, row[2] * height - line])
                for at in self._anchors_of(row, anchors / image_size):
                    size = np.log(row[3:5] * image_size / own[at])
                    self._of_object(
                        differences[image, at, :, line, column],
                        values[at, :, line, column],
                        row,
                        np.concatenate([place, size]),
                    )
        return differences

    def _anchors_of(self, row: np.ndarray, shapes: np.ndarray) -> Iterator[int]:
        """Which anchors of this map an object belongs to, as indices into ``mask``."""
        import numpy as np

        mask = list(self.p.mask)[: self.p.num]
        still = np.concatenate([np.zeros_like(shapes), shapes], 1)
        shared = overlaps(still, np.array([0, 0, *row[3:5]], shapes.dtype))
        nearest = int(shared.argmax())
        taken = nearest
        if nearest in mask:
            taken = mask.index(nearest)
            yield taken
        # The original compares the number of an anchor with what is by then its place in mask.
        for number in range(len(shapes)):
            if number in mask and number != taken and self.p.iou_thresh < min(shared[number], 1):
                yield mask.index(number)

    def _of_object(
        self, differences: np.ndarray, values: np.ndarray, row: np.ndarray, aim: np.ndarray
    ) -> None:
        """Sets the differences (5 + classes) at the cell and anchor of an object."""
        import numpy as np

        p = self.p
        found = np.concatenate([sigmoid(values[:2]), values[2:4]])
        differences[:4] = -p.coord_scale * (2 - row[3] * row[4]) * (aim - found)
        factor = p.object_scale if p.use_logic_gradient else 1
        differences[4] = -factor * (1 - sigmoid(values[4]))
        shares, label, eps = sigmoid(values[5:]), int(row[0]), p.label_smooth_eps
        wanted = (np.arange(len(shares)) == label) * (1 - eps) + 0.5 * eps
        own = -p.class_scale * (wanted - shares)
        if 0 <= label < len(shares) and differences[5 + label]:
            differences[5 + label] = own[label]
        else:
            differences[5:] = own


def _boxes(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes (num, H, W, 4) of an image; ``sizes`` (num, 2) are those of the anchors."""
    import numpy as np

    height, width = values.shape[-2:]
    x = (np.arange(width) + sigmoid(values[:, 0])) / width
    y = (np.arange(height)[:, None] + sigmoid(values[:, 1])) / height
    wide, high = (np.exp(values[:, 2 + k]) * sizes[:, k, None, None] for k in range(2))
    return np.stack([x, y, wide, high], -1)
