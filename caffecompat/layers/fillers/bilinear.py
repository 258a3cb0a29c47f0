"""The filler bilinear, for deconvolutions that upsample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import format_shape
from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("bilinear")
def bilinear(request: Request) -> Tensor:
    """The kernel of bilinear interpolation, (1 - |x/f - c|)(1 - |y/f - c|).

    For a k x k kernel f = ceil(k / 2) and c = (k - 1) / 2f. Every pair of an output and an input
    channel gets this kernel, not only the diagonal: set ``group`` to upsample each channel alone.
    Source: Caffe's BilinearFiller.
    """
    import torch

    shape = request.shape
    request.check(
        len(shape) == 4 and shape[2] == shape[3],
        f"the parameter is {format_shape(shape)}, it must have 4 axes and a square kernel",
    )
    size = shape[3]
    half = (size + 1) // 2
    centre = (size - 1) / (2 * half)
    slope = 1 - (torch.arange(size, dtype=torch.float64) / half - centre).abs()
    return torch.outer(slope, slope).float().expand(shape).clone()
