"""The base class of MobileNet-YOLO's detection outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import Layer, Message, Shape, format_shape
from caffecompat.layers.forks.yolo._centre_boxes import best_rows

if TYPE_CHECKING:
    from torch import Tensor

# Values of an anchor: x, y, width, height, objectness, then the classes.
_BEFORE_CLASSES = 5


class DetectionsOfMaps(Layer):
    """Detections from maps (1, num_box * (5 + num_classes), height, width).

    Top: (1, 1, K, 7) with rows [0, label, score, left, top, right, bottom], relative to the image;
    the label is that of the class, counted from 1. Without detections there is one row for each
    image: its index, then -1. When the net is built the top has one row.

    The channels of an anchor are x, y, width, height, objectness and classes. A box that overlaps a
    better one, of whatever class and of whatever map, by ``nms_threshold`` or more is dropped.

    Attributes:
        squares: maps must be as high as wide.
    """

    in_place = False
    differentiable = (False,)
    batch_coupling = "takes the boxes of the whole batch"
    squares: ClassVar[bool] = False

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        (name,) = self.fork_fields
        p = getattr(message, name)
        self.check(p.HasField("num_classes"), f"{name} has no num_classes")
        self.classes, self.anchors = int(p.num_classes), int(p.num_box)
        self.least, self.threshold = float(p.confidence_threshold), float(p.nms_threshold)
        self.read(p, bottoms)

    def read(self, p: Message, bottoms: Sequence[Shape]) -> None:
        """Reads the settings of the type."""
        raise NotImplementedError

    def boxes(self, cells: Tensor, at: int) -> tuple[Tensor, Tensor, Tensor]:
        """The boxes (R, 4) of one map that are likely enough, their labels (R) and scores (R).

        Args:
            cells: (N, H, W, anchors, 5 + classes).
            at: the position of the map among the bottoms.
        """
        raise NotImplementedError

    def forward(self, *maps: Tensor) -> Tensor:
        found = [self.boxes(self._cells(values.detach()), at) for at, values in enumerate(maps)]
        return best_rows(found, self.threshold, maps[0].shape[0])

    def infer(self, *maps: Tensor) -> Tensor:
        for values in maps:
            self._check_map(values)
        return maps[0].new_empty(1, 1, 1, 7)

    def _check_map(self, values: Tensor) -> None:
        wanted = self.anchors * (_BEFORE_CLASSES + self.classes)
        fits = values.dim() == 4 and values.shape[1] == wanted
        self.check(
            fits and not (self.squares and values.shape[2] != values.shape[3]),
            f"a bottom is {format_shape(values.shape)}; expected "
            + (f"square maps with {wanted}" if self.squares else f"{wanted}")
            + f" channels, for {self.anchors} anchors and {self.classes} classes",
        )

    def _cells(self, values: Tensor) -> Tensor:
        self._check_map(values)
        n, _, height, width = values.shape
        cells = values.reshape(n, self.anchors, _BEFORE_CLASSES + self.classes, height, width)
        return cells.permute(0, 3, 4, 1, 2)


def centred_boxes(cells: Tensor, sizes: Tensor, scale: int) -> Tensor:
    """Centres and sizes relative to the image, (N, H, W, anchors, 4).

    Args:
        cells: (N, H, W, anchors, 4 or more).
        sizes: width and height of each anchor.
        scale: the extent of a cell in the unit of ``sizes``.
    """
    import torch

    _, height, width, _, _ = cells.shape
    x, y, wide, high = cells[..., :4].unbind(-1)
    row = torch.arange(height, device=cells.device, dtype=cells.dtype)[:, None, None]
    column = torch.arange(width, device=cells.device, dtype=cells.dtype)[:, None]
    return torch.stack(
        [
            (column + x.sigmoid()) / width,
            (row + y.sigmoid()) / height,
            wide.exp() * sizes[:, 0] / (width * scale),
            high.exp() * sizes[:, 1] / (height * scale),
        ],
        -1,
    )
