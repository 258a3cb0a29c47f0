"""Boxes [x1, y1, x2, y2] whose corners are pixels in the box: x2 - x1 + 1 pixels wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.forks import _suppression as suppression

if TYPE_CHECKING:
    from torch import Tensor


def sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Widths and heights of boxes (..., 4)."""
    return boxes[..., 2] - boxes[..., 0] + 1, boxes[..., 3] - boxes[..., 1] + 1


def intersections(first: Tensor, second: Tensor) -> Tensor:
    """The area (M, N) that each box of (M, 4) has in common with each of (N, 4)."""
    import torch

    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    return (high - low + 1).clamp(min=0).prod(2)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (M, N) of boxes (M, 4) and (N, 4)."""
    common = intersections(first, second)
    (wide, high), (other_wide, other_high) = sizes(first), sizes(second)
    return common / ((wide * high)[:, None] + (other_wide * other_high)[None] - common)


def encode(boxes: Tensor, targets: Tensor) -> Tensor:
    """(dx, dy, dw, dh) that take ``boxes`` to ``targets``, both (R, 4).

    Offsets of the centres relative to the boxes' sizes, and logarithms of the ratios of sizes.
    """
    import torch

    (wide, high), (target_wide, target_high) = sizes(boxes), sizes(targets)
    centre = boxes[:, :2] + 0.5 * torch.stack([wide, high], 1)
    target = targets[:, :2] + 0.5 * torch.stack([target_wide, target_high], 1)
    size = torch.stack([wide, high], 1)
    ratio = torch.stack([target_wide / wide, target_high / high], 1)
    return torch.cat([(target - centre) / size, ratio.log()], 1)


def decode(boxes: Tensor, deltas: Tensor, inclusive: bool = False) -> Tensor:
    """Boxes (R, 4K) from ``boxes`` (R, 4) and ``deltas`` (R, 4K), four for each of K classes.

    The right corner is left + width as in py-faster-rcnn, one pixel more than in
    :func:`encode`; with ``inclusive`` it is left + width - 1 as in Cascade R-CNN.
    """
    import torch

    wide, high = (size.unsqueeze(1) for size in sizes(boxes))
    x = deltas[:, 0::4] * wide + (boxes[:, 0:1] + 0.5 * wide)
    y = deltas[:, 1::4] * high + (boxes[:, 1:2] + 0.5 * high)
    half_wide, half_high = 0.5 * deltas[:, 2::4].exp() * wide, 0.5 * deltas[:, 3::4].exp() * high
    less = 1 if inclusive else 0
    corners = (x - half_wide, y - half_high, x + half_wide - less, y + half_high - less)
    return torch.stack(corners, 2).flatten(1)


def clip(boxes: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Boxes (R, 4) with all corners in an image of ``height`` x ``width`` pixels."""
    import torch

    most = torch.stack([width - 1, height - 1, width - 1, height - 1])
    return torch.minimum(boxes, most).clamp(min=0)


def suppress(boxes: Tensor, threshold: float, limit: int = 0) -> Tensor:
    """Indices of the boxes (R, 4), the best first, that overlap no better one above a threshold.

    At most ``limit`` stay; 0 for any number.
    """
    return suppression.suppress(boxes, lambda a, b: overlaps(a, b) > threshold, limit)
