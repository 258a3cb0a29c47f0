"""Targets at each position of a map, as MS-CNN's and Cascade R-CNN's data layers make them."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, format_shape
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import BoxRegression, FieldBounds

if TYPE_CHECKING:
    from torch import Tensor

# Smaller objects count as this wide and high.
_LEAST_SIDE = 2


@dataclass(frozen=True)
class DenseTargets:
    """What a map (M, 6, H, W) of targets says.

    Attributes:
        labels: (M, H, W) int64; 0 is the background.
        boxes: (M, 4, H, W): x and y of the centre, width and height, in pixels.
        overlaps: (M, H, W), of the anchor with the object.
    """

    labels: Tensor
    boxes: Tensor
    overlaps: Tensor

    @classmethod
    def of(cls, maps: Tensor) -> DenseTargets:
        values = maps.detach()
        return cls(values[:, 0].long(), values[:, 1:5], values[:, 5])

    @classmethod
    def beside(cls, layer: Layer, x: Tensor, maps: Tensor, channels: int) -> DenseTargets:
        """The targets for predictions ``x``.

        Raises:
            LayerError: ``x`` is not (M, channels, H, W), or the maps are not of its size.
        """
        layer.check(
            x.dim() == 4
            and x.shape[1] == channels
            and tuple(maps.shape) == (x.shape[0], 6, *x.shape[2:]),
            f"its bottoms are {format_shape(x.shape)} and {format_shape(maps.shape)}; expected "
            f"{channels} and 6 channels in maps of one size",
        )
        return cls.of(maps)

    def deltas(self, fields: Tensor, stride: float, regression: BoxRegression) -> Tensor:
        """Normalised deltas (M, 4, H, W) from anchors (M, 2) to the objects; 0 at background."""
        import torch

        _, _, height, width = self.boxes.shape
        wide, high = fields[:, 0, None, None], fields[:, 1, None, None]
        column = torch.arange(width, dtype=fields.dtype, device=fields.device) + 0.5
        row = torch.arange(height, dtype=fields.dtype, device=fields.device)[:, None] + 0.5
        x, y, box_wide, box_high = self.boxes.unbind(1)
        found = torch.stack(
            [
                (x - column * stride) / wide,
                (y - row * stride) / high,
                (box_wide.clamp(min=_LEAST_SIDE) / wide).log(),
                (box_high.clamp(min=_LEAST_SIDE) / high).log(),
            ],
            1,
        )
        return regression.normalised(found, 1).where(self.labels.unsqueeze(1) > 0, 0)


def limited(deltas: Tensor, bounds: FieldBounds, regression: BoxRegression) -> Tensor:
    """Normalised deltas (M, 4, H, W) within the bounds, with the gradients of the given ones.

    The bounds are normalised by the mean of the two means, and the geometric mean of the two
    deviations, of centres and of sizes.
    """
    import torch

    means, stds = regression.means, regression.stds
    offset, factor = 1 / bounds.field_xyr, log(bounds.field_whr)
    parts = []
    for at, most in ((0, offset), (2, factor)):
        mean, std = (means[at] + means[at + 1]) / 2, sqrt(stds[at] * stds[at + 1])
        parts.append(deltas[:, at : at + 2].clamp((-most - mean) / std, (most - mean) / std))
    return deltas + (torch.cat(parts, 1) - deltas).detach()


def smooth_l1(difference: Tensor) -> Tensor:
    """d^2 / 2 for |d| < 1, and |d| - 1/2 beyond."""
    size = difference.abs()
    return (0.5 * difference * difference).where(size < 1, size - 0.5)
