"""The values of images between their pixels, for layers that move images by a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, format_shape
from caffecompat.layers._repeatable_gradients import gathered

if TYPE_CHECKING:
    from torch import Tensor


def check_flow(layer: Layer, image: Tensor, flow: Tensor) -> None:
    """Checks that a flow (N, 2, H, W) belongs to an image (N, C, H, W).

    Raises:
        LayerError: it does not.
    """
    layer.check(
        image.dim() == 4 and flow.shape == (image.shape[0], 2, *image.shape[2:]),
        f"the image is {format_shape(image.shape)} and the flow {format_shape(flow.shape)}; "
        "the flow must have two channels and the image's other extents",
    )


def places(flow: Tensor) -> tuple[Tensor, Tensor]:
    """The columns and rows (N, H, W) that the pixels of a flow (N, 2, H, W) point at."""
    import torch

    height, width = flow.shape[2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = flow[:, 1] + torch.arange(height, device=flow.device, dtype=flow.dtype).unsqueeze(1)
    return x, y


def pixels(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of (N, C, H, W) at whole places (N, H, W), which are moved into the image."""
    height, width = image.shape[2:]
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    flat = image.flatten(2)
    index = index.flatten(1).unsqueeze(1).expand(flat.shape)
    return gathered(flat, 2, index).view_as(image)


def between(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(N, C, H, W) at the columns ``x`` and rows ``y``, with bilinear weights.

    Next to the last column and row, that one is repeated.
    """
    left, top = x.detach().floor(), y.detach().floor()
    across, down = (x - left).unsqueeze(1), (y - top).unsqueeze(1)
    row, column = top.long(), left.long()
    upper, lower = (
        pixels(image, r, column) * (1 - across) + pixels(image, r, column + 1) * across
        for r in (row, row + 1)
    )
    return upper * (1 - down) + lower * down
