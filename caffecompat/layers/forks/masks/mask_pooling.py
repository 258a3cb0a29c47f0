"""MaskPooling: features times a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, exactly, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("MaskPooling", fork="MNC")
class MaskPooling(Layer):
    """Features (N, C, H, W), each channel times the mask (N, 1, H, W).

    Source: the mask_pooling_layer of multi-task network cascades.
    """

    bottoms = exactly(2)
    in_place = False
    pointwise = True
    differentiable = (True, True)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        self.check(
            features.dim() == 4 and mask.shape == (features.shape[0], 1, *features.shape[2:]),
            f"its bottoms are {format_shape(features.shape)} and {format_shape(mask.shape)}; they "
            "must be features NxCxHxW and masks Nx1xHxW",
        )
        return features * mask
