"""Classifiers on a grid over a region, interpolated between its cells (hypercolumns)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, format_shape

if TYPE_CHECKING:
    from torch import Tensor


def interpolated(layer: Layer, scores: Tensor, grid: int) -> Tensor:
    """(N, M, H, W): at each pixel the sigmoids of the grid's four nearest cells, interpolated.

    ``scores`` is (N, M grid^2, H, W): for each of M classes the channels of the grid's cells, row
    by row. Pixel i of H is at (i + 1/2) grid / H - 1/2; cells beyond the grid are those at its
    edge.

    Raises:
        LayerError: the channels are no multiple of grid^2.
    """
    layer.check(
        scores.dim() == 4 and scores.shape[1] % (grid * grid) == 0 and scores.shape[1] > 0,
        f"the bottom is {format_shape(scores.shape)}; expected N x C x H x W with a multiple of "
        f"{grid * grid} channels",
    )
    height, width = scores.shape[2:]
    down, across = _weights(grid, height, scores), _weights(grid, width, scores)
    weights = (down[:, None, :, None] * across[None, :, None, :]).flatten(0, 1)
    return (scores.sigmoid().unflatten(1, (-1, grid * grid)) * weights).sum(2)


def _weights(grid: int, extent: int, like: Tensor) -> Tensor:
    """The weight (grid, extent) of each cell at each pixel along an axis."""
    import torch

    pixels = torch.arange(extent, device=like.device, dtype=like.dtype)
    at = (pixels + 0.5) * grid / extent - 0.5
    below = at.floor()
    share = at - below
    cells = torch.arange(grid, device=like.device, dtype=like.dtype)[:, None]
    low, high = below.clamp(min=0), (below + 1).clamp(max=grid - 1)
    return (cells == low) * (1 - share) + (cells == high) * share


def read_grid(layer: Layer, grid: int) -> int:
    """``grid_size``, refused if it is 0."""
    layer.check(grid > 0, "local_layer_param: grid_size is missing or 0, it must be positive")
    return int(grid)
