"""BilinearInterpolation: resizing to the plane of another blob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, exactly, format_shape, register
from caffecompat.layers.forks.segmentation.resizing._resize import resize_with_aligned_corners

if TYPE_CHECKING:
    from torch import Tensor


@register("BilinearInterpolation", fork="document binarization")
class BilinearInterpolation(Layer):
    """The first bottom (N, C, H, W), resized to the height and width of the second.

    Corners are aligned: output row i is at row i (H - 1) / (H' - 1). The second bottom's values
    are not used and get no gradient. Source: the BilinearInterpolation layer of the DIBCO nets.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        self.check(
            x.dim() == 4 and reference.dim() == 4,
            f"its bottoms are {format_shape(x.shape)} and {format_shape(reference.shape)}; both "
            "must have 4 axes (N, C, H, W)",
        )
        return resize_with_aligned_corners(x, *reference.shape[2:])
