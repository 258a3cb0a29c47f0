"""Bilinear resizing in which the corners of both planes coincide."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def resize_with_aligned_corners(x: Tensor, height: int, width: int) -> Tensor:
    """(N, C, H, W) as (N, C, height, width); row i is at i (H - 1) / (height - 1), or 0."""
    import torch.nn.functional as F

    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)
