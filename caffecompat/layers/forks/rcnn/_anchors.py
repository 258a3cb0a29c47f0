"""Anchors: boxes of several shapes and sizes around each position of a feature map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def round_half_up(value: float) -> float:
    return float(floor(value + 0.5))


def round_half_even(value: float) -> float:
    """numpy's rounding."""
    return float(round(value))


def base_anchors(
    base_size: int,
    ratios: Sequence[float],
    scales: Sequence[float],
    rounded: Callable[[float], float] = round_half_even,
) -> list[list[float]]:
    """The anchors of the first position: [x1, y1, x2, y2] in pixels, ordered by ratio, then scale.

    All have the centre of the pixels 0 to ``base_size`` - 1. A ratio r, height by width, gives
    width round(sqrt(base_size^2 / r)) and height round(width * r); a scale multiplies both.

    Args:
        rounded: how halves are rounded; numpy's way, or up as in C for positive numbers.
    """
    centre = (base_size - 1) / 2
    anchors = []
    for ratio in ratios:
        width = rounded(sqrt(base_size * base_size / ratio))
        height = rounded(width * ratio)
        for scale in scales:
            x, y = (width * scale - 1) / 2, (height * scale - 1) / 2
            anchors.append([centre - x, centre - y, centre + x, centre + y])
    return anchors


def anchors_of_map(
    anchors: Sequence[Sequence[float]], height: int, width: int, stride: float, like: Tensor
) -> Tensor:
    """Anchors (height * width * A, 4) of all positions: rows, columns, then anchors.

    Args:
        stride: pixels of the image between positions.
        like: a tensor with the device and the type of the result.
    """
    import torch

    base = torch.tensor(anchors, dtype=like.dtype, device=like.device).reshape(1, 1, -1, 4)
    x = torch.arange(width, dtype=like.dtype, device=like.device) * stride
    y = torch.arange(height, dtype=like.dtype, device=like.device) * stride
    shifts = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], 2)
    return (base + shifts.repeat(1, 1, 2).unsqueeze(2)).reshape(-1, 4)


def by_position(maps: Tensor, values: int) -> Tensor:
    """(1, A * values, H, W) as (H * W * A, values), in the order of :func:`anchors_of_map`."""
    _, channels, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(height * width * (channels // values), values)


def as_maps(rows: Tensor, height: int, width: int) -> Tensor:
    """(H * W * A, values) as (1, A * values, H, W), the reverse of :func:`by_position`."""
    return rows.reshape(1, height, width, -1).permute(0, 3, 1, 2).contiguous()
