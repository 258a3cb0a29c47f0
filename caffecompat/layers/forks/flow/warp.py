"""Warp of PWC-Net: features, moved by a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, exactly, register
from caffecompat.layers.forks.flow._warping import between, check_flow, pixels, places

if TYPE_CHECKING:
    from torch import Tensor


@register("Warp", fork="PWC-Net")
class Warp(Layer):
    """y(row, column) = image(row + v, column + u), with bilinear weights; 0 outside of the image.

    Bottoms: image (N, C, H, W) and flow (N, 2, H, W) with u along W and v along H. A place is
    outside if it is below 0 or above H - 1 or W - 1. At a whole row or column the flow gets the
    mean of the slopes on both sides, with 0 for the slope across the border; FlowWarp takes the one
    side. Source: PWC-Net's Warp layer.
    """

    bottoms = exactly(2)
    in_place = False

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        check_flow(self, image, flow)
        height, width = image.shape[2:]
        x, y = places(flow)
        inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
        x, y = x.where(inside, 0), y.where(inside, 0)
        warped = between(image, x, y)
        if flow.requires_grad:
            transposed = image.detach().transpose(2, 3)
            warped = warped + _other_slopes(image.detach(), x, y)
            across = _other_slopes(transposed, y.transpose(1, 2), x.transpose(1, 2))
            warped = warped + across.transpose(2, 3)
        return warped.where(inside.unsqueeze(1), 0)


def _other_slopes(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """0, with the gradient by which the mean slope along x differs from the one to the right."""
    column, row = x.detach().floor().long(), y.detach().floor().long()
    down = (y.detach() - row).unsqueeze(1)
    halves = []
    for r in (row, row + 1):
        here = pixels(image, r, column)
        to_right = pixels(image, r, column + 1) - here
        to_left = here - pixels(image, r, column - 1)
        halves.append((to_left - to_right) / 2)
    difference = halves[0] * (1 - down) + halves[1] * down
    whole = (x.detach() == column).unsqueeze(1)
    return (x - x.detach()).unsqueeze(1) * difference.where(whole, 0)
