"""ROIWarping: bilinear samples of regions, with gradients for the regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers._repeatable_gradients import gathered, selected
from caffecompat.layers._rounding import round_away
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor


@register("ROIWarping", fork="MNC")
class ROIWarping(Layer):
    """Features (N, C, H, W) at a grid of points in each region (R, 5), bilinearly interpolated.

    Top: (R, C, ``pooled_h``, ``pooled_w``). The corners of a region [image, x1, y1, x2, y2] are
    multiplied by ``spatial_scale`` and rounded; point (i, j) is at
    y1 + i max(y2 - y1, 0) / ``pooled_h``, x1 + j max(x2 - x1, 0) / ``pooled_w``. A point more than
    1/2 outside of the map gives 0, one at most 1/2 outside the value at the edge.

    Corners get gradients as if they were not rounded; but, as in the original, not from points at
    the last row or column of the map, nor for the image's number. The gradient of the features is
    the derivative of the forward pass, of which the original loses a part. Source:
    roi_warping_layer.cu of multi-task network cascades.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, True)
    fork_fields = ("roi_warping_param",)
    batch_coupling = "takes regions from all images of the batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.roi_warping_param
        self.check(
            min(p.pooled_h, p.pooled_w) > 0,
            "roi_warping_param: pooled_h and pooled_w must be positive",
        )
        self.size, self.scale = (int(p.pooled_h), int(p.pooled_w)), float(p.spatial_scale)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        self.check(
            features.dim() == 4 and regions.dim() > 0 and regions.numel() == 5 * regions.shape[0],
            f"its bottoms are {format_shape(features.shape)} and {format_shape(regions.shape)}; "
            "expected features N x C x H x W and regions R x 5",
        )
        rows = regions.reshape(regions.shape[0], 5)
        image = rows[:, 0].detach().long()
        scaled = rows[:, 1:] * self.scale
        corners = with_gradient_of(round_away(scaled.detach()), scaled)
        y = _points(corners[:, 1], corners[:, 3], self.size[0])
        x = _points(corners[:, 0], corners[:, 2], self.size[1])
        height, width = features.shape[2:]
        inside_y, low_y, high_y, share_y = _neighbours(y, height)
        inside_x, low_x, high_x, share_x = _neighbours(x, width)
        # Only a point with neighbours on both axes moves its region.
        moves = (low_y < height - 1)[:, :, None] & (low_x < width - 1)[:, None, :]
        down = _where(moves, share_y[:, :, None])
        right = _where(moves, share_x[:, None, :])
        values = self._gathered(features, image, (low_y, high_y), (low_x, high_x))
        above = values[0] * (1 - right) + values[1] * right
        below = values[2] * (1 - right) + values[3] * right
        inside = (inside_y[:, :, None] & inside_x[:, None, :]).unsqueeze(1)
        return (above * (1 - down) + below * down) * inside

    def _gathered(
        self,
        features: Tensor,
        image: Tensor,
        rows: tuple[Tensor, Tensor],
        columns: tuple[Tensor, Tensor],
    ) -> list[Tensor]:
        """The features at the four neighbours, each (R, C, pooled_h, pooled_w)."""
        width = features.shape[3]
        sentence = f"a region names an image beyond the {features.shape[0]} of the batch"
        with explaining_bad_index(self, sentence):
            planes = selected(features.flatten(2), 0, image)
        found = []
        for y in rows:
            for x in columns:
                index = (y[:, :, None] * width + x[:, None, :]).flatten(1)
                index = index.unsqueeze(1).expand(-1, features.shape[1], -1)
                found.append(gathered(planes, 2, index).unflatten(2, self.size))
        return found


def _points(start: Tensor, end: Tensor, count: int) -> Tensor:
    import torch

    steps = torch.arange(count, device=start.device, dtype=start.dtype)
    length = (end - start).clamp(min=0)[:, None]
    return start[:, None] + steps * (length / count)


def _neighbours(at: Tensor, extent: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whether points are near the map, their two neighbours, and the share of the second."""
    inside = (at >= -0.5) & (at <= extent - 0.5)
    place = at.clamp(0, extent - 1)
    low = place.detach().floor().long()
    return inside.detach(), low, (low + 1).clamp(max=extent - 1), place - low


def _where(moves: Tensor, share: Tensor) -> Tensor:
    """Shares (R, 1, pooled_h, pooled_w) whose gradient is kept where ``moves``."""
    import torch

    share = share.expand(moves.shape)
    return torch.where(moves, share, share.detach()).unsqueeze(1)
