"""ConvolutionDepthwise: each channel has its own kernel, whatever the group."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.mobile._depthwise import DepthwiseBase


@register("ConvolutionDepthwise", fork="ShuffleNet, MnasNet")
class ConvolutionDepthwise(DepthwiseBase):
    """A convolution of each channel with a kernel of its own, plus bias.

    Bottom (N, C, H, W) becomes (N, C, H', W'), as by a Convolution with group C; the weight is
    (C, 1, kernel, kernel). ``num_output`` must be C, and ``group`` is C whatever is stated.
    Source: the ConvolutionDepthwise layer of farmingyard's ShuffleNet.
    """

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        depthwise = type(message)()
        depthwise.CopyFrom(message)
        depthwise.convolution_param.ClearField("group")
        super().setup(depthwise, bottoms)
        self.check(
            self.outputs == self.channels,
            f"num_output is {self.outputs}, but it gives one channel for each of the bottom's "
            f"{self.channels}; write num_output: {self.channels}",
        )
