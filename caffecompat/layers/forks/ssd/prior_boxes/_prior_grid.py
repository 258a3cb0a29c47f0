"""The grid of prior boxes (anchors) of a feature map, for PriorBox and PriorBoxClustered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape

if TYPE_CHECKING:
    from torch import Tensor

# Fields that both types read.
GRID_FIELDS = (
    *("clip", "variance", "img_size", "img_h", "img_w", "step", "step_h", "step_w", "offset"),
    # Which implementation runs; the values are the same.
    "engine",
)


def pair(layer: Layer, message: Message, both: str, height: str, width: str) -> tuple[float, float]:
    """A height and a width, given as one field for both or as two; 0, 0 where neither is given.

    Raises:
        LayerError: both forms are given, or a value is not positive.
    """
    if message.HasField(height) or message.HasField(width):
        layer.check(
            not message.HasField(both),
            f"prior_box_param: {both} and {height} or {width} are both given; remove one of them",
        )
        values = (float(getattr(message, height)), float(getattr(message, width)))
        names = f"{height} and {width} are {values[0]:g} and {values[1]:g}"
    elif message.HasField(both):
        values = (float(getattr(message, both)),) * 2
        names = f"{both} is {values[0]:g}"
    else:
        return (0.0, 0.0)
    layer.check(min(values) > 0, f"prior_box_param: {names}, expected positive numbers")
    return values


@dataclass(frozen=True)
class BoxSize:
    """The size of one prior, and where its centre is from that of its position, in pixels.

    With ``at_lower_edge`` the centre is at the lower edge of the position's cell instead.
    """

    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    at_lower_edge: bool = False


class PriorGrid(Layer):
    """A layer that puts the same boxes at each position of a feature map.

    Bottoms: a feature map and the image, of which only height and width matter. Top: (1, 2, K),
    with K = 4 * H * W * boxes; row 0 is (xmin, ymin, xmax, ymax) of each box relative to the image,
    row 1 the variances of these four. A subclass sets ``boxes`` in its setup.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("prior_box_param",)

    boxes: Sequence[BoxSize]

    def read_grid(self, message: Message, bottoms: Sequence[Shape]) -> None:
        """Reads the fields of :data:`GRID_FIELDS`."""
        p = message.prior_box_param
        for name, shape in zip(message.bottom, bottoms, strict=False):
            self.check(
                len(shape) == 4,
                f"bottom {name!r} is {format_shape(shape)}, expected (N, C, H, W)",
            )
        self.image = pair(self, p, "img_size", "img_h", "img_w")
        self.step = pair(self, p, "step", "step_h", "step_w")
        self.offset = float(p.offset)
        self.clip = bool(p.clip)
        self.variances = [float(value) for value in p.variance] or [0.1]
        self.check(
            len(self.variances) in (1, 4) and min(self.variances) > 0,
            f"prior_box_param: variance is {self.variances}; give one or four positive numbers",
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        height, width = bottoms[0][2:]
        return [(1, 2, 4 * height * width * len(self.boxes))]

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        import torch

        height, width = features.shape[2], features.shape[3]
        image_height, image_width = self.image_size(image.shape)
        step_height, step_width = self.steps((height, width), (image_height, image_width))
        exact, device = torch.float64, features.device
        # The centres are rounded to 32 bits, what follows is not, as in SSD.
        i, j = (torch.arange(extent, dtype=exact, device=device) for extent in (height, width))
        y = _rounded_values((i + self.offset) * step_height)
        x = _rounded_values((j + self.offset) * step_width)
        rows = [_edges(x + box.x, box.width / 2) / image_width for box in self.boxes]
        lower = _rounded_values((i + 1) * step_height)
        columns = [
            _edges((lower if box.at_lower_edge else y) + box.y, box.height / 2) / image_height
            for box in self.boxes
        ]
        across = torch.stack(rows).permute(2, 0, 1)[None].expand(height, -1, -1, -1)
        down = torch.stack(columns).permute(2, 0, 1)[:, None].expand(-1, width, -1, -1)
        corners = torch.stack([across, down], -1)  # H, W, box, first or last, x or y
        boxes = corners.reshape(-1)
        if self.clip:
            boxes = boxes.clamp(0, 1)
        return torch.stack([boxes, self._variances(boxes)])[None].to(features.dtype)

    def image_size(self, image: Sequence[int]) -> tuple[float, float]:
        """Height and width of the image that the boxes are parts of, for a second bottom."""
        return self.image if self.image[0] else (float(image[2]), float(image[3]))

    def steps(self, size: Sequence[int], image: tuple[float, float]) -> tuple[float, float]:
        """The distances of positions of a map with extents ``size``, in pixels."""
        if self.step[0]:
            return self.step
        return rounded(image[0] / size[0]), rounded(image[1] / size[1])

    def _variances(self, boxes: Tensor) -> Tensor:
        import torch

        values = self.variances if len(self.variances) == 4 else self.variances * 4
        parts = [torch.full_like(boxes[::4], value) for value in values]
        return torch.stack(parts, 1).reshape(-1)


def _edges(centres: Tensor, half: float) -> Tensor:
    """The lower and the upper edges of boxes, (2, N)."""
    import torch

    return torch.stack([centres - half, centres + half])


def _rounded_values(values: Tensor) -> Tensor:
    """Values of 64 bits, rounded to 32 bits."""
    import torch

    return values.to(torch.float32).to(torch.float64)


def rounded(value: float) -> float:
    """A number of 64 bits, rounded to 32 bits."""
    return float(np.float32(value))
