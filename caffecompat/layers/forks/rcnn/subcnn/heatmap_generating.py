"""HeatmapGenerating of SubCNN: the largest probability of a class that is no background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("HeatmapGenerating", fork="SubCNN")
class HeatmapGenerating(Layer):
    """(N, C, H, W) becomes (N, 1, H, W): the largest of the channels 1 to C - 1 at each pixel.

    Values of -1 or less do not count; where all are, the top is -1 and the gradient goes to channel
    0, as it does with one channel. Of equal values the first gets the gradient. Source:
    heatmap_generating_layer.cpp of SubCNN's Caffe.
    """

    in_place = False
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        self.check(
            x.dim() == 4 and x.shape[1] > 0,
            f"the bottom is {format_shape(x.shape)}, expected N x C x H x W",
        )
        # Channel 0 stands for the start of the search: its value is -1, its gradient its own.
        first = x[:, :1] - x[:, :1].detach() - 1
        import torch

        values, _ = torch.cat([first, x[:, 1:]], 1).max(1, keepdim=True)
        return values
