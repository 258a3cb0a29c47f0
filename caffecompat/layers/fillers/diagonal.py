"""The filler diagonal of FlowNet's Caffe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("diagonal")
def diagonal(request: Request) -> Tensor:
    """Zeros but for the kernels from channel n to output n.

    These have the n-th ``diag_val``, or 1, divided by the number of their elements. Source:
    DiagonalFiller of FlowNet's Caffe.
    """
    request.check(len(request.shape) == 4, "it is for weights of 4 axes, as a Convolution has")
    values = request.empty().zero_()
    outputs, channels, height, width = request.shape
    given = list(request.message.diag_val)
    for n in range(min(outputs, channels)):
        values[n, n] = (given[n] if n < len(given) else 1) / (height * width)
    return values
