"""The filler msra, after He et al. (2015)."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("msra")
def msra(request: Request) -> Tensor:
    """Normal with mean 0 and variance 2 / fan, for nets with ReLU.

    The fan is fan_in unless ``variance_norm`` says otherwise. Source: Caffe's MSRAFiller.
    """
    std = sqrt(2 / request.fan)
    return request.empty().normal_(0, std, generator=request.generator)
