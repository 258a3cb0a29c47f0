"""The filler xavier, after Glorot and Bengio (2010)."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("xavier")
def xavier(request: Request) -> Tensor:
    """Uniform in ±sqrt(3 / fan), so that the variance is 1 / fan.

    The fan is fan_in unless ``variance_norm`` says otherwise. Source: Caffe's XavierFiller.
    """
    bound = sqrt(3 / request.fan)
    return request.empty().uniform_(-bound, bound, generator=request.generator)
