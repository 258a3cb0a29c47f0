"""``bbox_reg_param`` of MS-CNN and Cascade R-CNN: how box deltas are normalised."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message

if TYPE_CHECKING:
    from torch import Tensor

_COORDINATES = 4


@dataclass(frozen=True)
class BoxRegression:
    """Means and deviations of (dx, dy, dw, dh); 0 and 1 unless both are given.

    Attributes:
        per_class: whether each class has deltas of its own; otherwise there are two groups of four,
            for background and for objects.
    """

    means: tuple[float, ...]
    stds: tuple[float, ...]
    per_class: bool

    def original(self, deltas: Tensor, axis: int) -> Tensor:
        """Deltas without the normalisation; ``axis`` has a multiple of four entries."""
        means, stds = self._along(deltas, axis)
        return deltas * stds + means

    def normalised(self, deltas: Tensor, axis: int) -> Tensor:
        means, stds = self._along(deltas, axis)
        return (deltas - means) / stds

    def _along(self, deltas: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        groups = deltas.shape[axis] // _COORDINATES
        shape = [-1 if i == axis % deltas.dim() else 1 for i in range(deltas.dim())]
        means, stds = (
            deltas.new_tensor(values).repeat(groups).reshape(shape)
            for values in (self.means, self.stds)
        )
        return means, stds


def read_box_regression(layer: Layer, message: Message) -> BoxRegression:
    """The ``bbox_reg_param`` of a LayerParameter.

    Raises:
        LayerError: there are not four means and four positive deviations.
    """
    p = message.bbox_reg_param
    if not (p.bbox_mean and p.bbox_std):
        return BoxRegression((0.0,) * _COORDINATES, (1.0,) * _COORDINATES, bool(p.cls_aware))
    layer.check(
        len(p.bbox_mean) == len(p.bbox_std) == _COORDINATES and min(p.bbox_std) > 0,
        f"bbox_reg_param has the means {list(p.bbox_mean)} and the deviations "
        f"{list(p.bbox_std)}; expected four of each, and positive deviations",
    )
    return BoxRegression(tuple(p.bbox_mean), tuple(p.bbox_std), bool(p.cls_aware))


@dataclass(frozen=True)
class FieldBounds:
    """Limits of deltas: centres within 1 / ``field_xyr``, sizes within a factor ``field_whr``."""

    field_xyr: float
    field_whr: float

    def limit(self, deltas: Tensor) -> Tensor:
        """Deltas (N, 4, ...) within the limits."""
        import torch

        offset, factor = 1 / self.field_xyr, log(self.field_whr)
        centres, sizes = deltas[:, :2], deltas[:, 2:]
        return torch.cat([centres.clamp(-offset, offset), sizes.clamp(-factor, factor)], 1)


def field_boxes(deltas: Tensor, fields: Tensor, stride: float) -> Tensor:
    """Boxes [x, y, width, height] from deltas (N, 4, H, W) around the positions of a map.

    Args:
        fields: (N, 2): width and height of the anchor of each map.
        stride: pixels of the image between positions, of which the first is at stride / 2.
    """
    import torch

    _, _, height, width = deltas.shape
    wide, high = fields[:, 0, None, None], fields[:, 1, None, None]
    column = torch.arange(width, dtype=deltas.dtype, device=deltas.device) + 0.5
    row = torch.arange(height, dtype=deltas.dtype, device=deltas.device)[:, None] + 0.5
    x, y = deltas[:, 0] * wide + column * stride, deltas[:, 1] * high + row * stride
    box_wide, box_high = wide * deltas[:, 2].exp(), high * deltas[:, 3].exp()
    return torch.stack([x - box_wide / 2, y - box_high / 2, box_wide, box_high], 1)


def union_of(kind: str, first: Tensor, second: Tensor, common: Tensor) -> Tensor:
    """What an intersection (M, N) is divided by, from areas (M) and (N).

    ``"IOMU"``: the smaller area. ``"IOFU"``: the first one. Any other kind: the union.
    """
    import torch

    if kind == "IOMU":
        return torch.minimum(first[:, None], second[None])
    if kind == "IOFU":
        return first[:, None].expand(common.shape)
    return first[:, None] + second[None] - common


def corner_overlaps(kind: str, first: Tensor, second: Tensor) -> Tensor:
    """Overlaps (M, N) of boxes [x1, y1, x2, y2] whose corners are pixels in the box.

    As in Cascade R-CNN, boxes that have only one row of pixels in common do not overlap, and boxes
    that end before they begin overlap none.
    """
    import torch

    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    apart = (low[..., 0] > high[..., 0]) | (low[..., 1] >= high[..., 1])
    common = (high - low + 1).prod(2).masked_fill(apart, 0)
    sizes = [(boxes[:, 2:] - boxes[:, :2] + 1) for boxes in (first, second)]
    valid = [((boxes[:, 2:] >= boxes[:, :2]).all(1)) for boxes in (first, second)]
    areas = [size.prod(1) * kept for size, kept in zip(sizes, valid, strict=True)]
    union = union_of(kind, areas[0], areas[1], common)
    both = valid[0][:, None] & valid[1][None] & (union > 0)
    return (common / union).where(both, 0)


def size_overlaps(kind: str, first: Tensor, second: Tensor) -> Tensor:
    """Overlaps (M, N) of boxes [x, y, width, height], as in MS-CNN; 0 for boxes without area."""
    import torch

    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    ends = [boxes[:, :2] + boxes[:, 2:4] for boxes in (first, second)]
    high = torch.minimum(ends[0][:, None], ends[1][None])
    common = (high - low).clamp(min=0).prod(2)
    areas = [boxes[:, 2:4].prod(1) for boxes in (first, second)]
    valid = [(boxes[:, 2:4] > 0).all(1) for boxes in (first, second)]
    union = union_of(kind, areas[0], areas[1], common)
    return (common / union).where(valid[0][:, None] & valid[1][None], 0)
