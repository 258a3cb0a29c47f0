"""DepthwiseConvolution: a convolution with one kernel for each channel."""

from __future__ import annotations

from caffecompat.layers._base import register
from caffecompat.layers.forks.mobile._depthwise import DepthwiseBase


@register("DepthwiseConvolution", fork="yonghenglh6, MobileNet")
class DepthwiseConvolution(DepthwiseBase):
    """A Convolution whose ``group`` is the number of channels unless another one is stated.

    Bottom (N, C, H, W) becomes (N, num_output, H', W'); the weight is
    (num_output, 1, kernel, kernel). The fork is a faster implementation of a Convolution with
    group C. Source: yonghenglh6's DepthwiseConvolution layer.
    """
