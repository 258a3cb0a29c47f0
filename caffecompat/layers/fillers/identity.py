"""The filler identity of NormFace's Caffe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("identity")
def identity(request: Request) -> Tensor:
    """1 for the weight of output n and input n, else 0; the shape is square.

    Source: IdentityFiller of NormFace's Caffe.
    """
    shape = request.shape
    square = len(shape) >= 2 and shape[0] == shape[1] and set(shape[2:]) <= {1}
    request.check(square, "it is for weights with as many outputs as inputs, and kernels of 1 x 1")
    values = request.empty().zero_()
    values.view(shape[0], shape[1]).fill_diagonal_(1)
    return values
