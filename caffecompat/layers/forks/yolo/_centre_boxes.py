"""Boxes [x, y, width, height] around a centre, relative to the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers.forks import _suppression as suppression

if TYPE_CHECKING:
    from torch import Tensor


def intersections(first: Tensor, second: Tensor) -> Tensor:
    """The area that boxes (..., 4) have in common; the shapes are broadcast."""
    import torch

    low = torch.maximum(first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2)
    high = torch.minimum(first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2)
    return (high - low).clamp(min=0).prod(-1)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4); the shapes are broadcast."""
    common = intersections(first, second)
    return common / (first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - common)


def suppress(boxes: Tensor, threshold: float) -> Tensor:
    """Indices of boxes (R, 4), the best first, that overlap no better one by ``threshold``."""
    return suppression.suppress(boxes, lambda a, b: overlaps(a[:, None], b[None]) >= threshold)


def best_rows(
    found: Sequence[tuple[Tensor, Tensor, Tensor]], threshold: float, images: int
) -> Tensor:
    """:func:`detection_rows` of the boxes that :func:`suppress` keeps, the best first.

    Args:
        found: boxes (R, 4), labels (R) and scores (R) of each map.
        threshold: of the suppression.
        images: as of :func:`detection_rows`.
    """
    import torch

    boxes, labels, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = scores.argsort(descending=True, stable=True)
    boxes, labels, scores = boxes[order], labels[order], scores[order]
    kept = suppress(boxes, threshold)
    return detection_rows(boxes[kept], labels[kept], scores[kept], images)


def detection_rows(boxes: Tensor, labels: Tensor, scores: Tensor, images: int) -> Tensor:
    """Detections (1, 1, K, 7): rows [0, label, score, left, top, right, bottom].

    Without any, one row for each of ``images`` images: its index, then -1.
    """
    import torch

    if len(boxes) == 0:
        rows = boxes.new_full((images, 7), -1)
        rows[:, 0] = torch.arange(images, device=boxes.device)
        return rows.reshape(1, 1, images, 7)
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    facts = torch.stack([torch.zeros_like(scores), labels.to(scores), scores], 1)
    return torch.cat([facts, centre - half, centre + half], 1).reshape(1, 1, -1, 7)
