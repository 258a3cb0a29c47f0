"""The filler uniform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("uniform")
def uniform(request: Request) -> Tensor:
    """Uniform between ``min`` and ``max``, 0 and 1 by default. Source: Caffe's UniformFiller."""
    low, high = request.message.min, request.message.max
    request.check(low <= high, f"min {low:g} is above max {high:g}")
    return request.empty().uniform_(low, high, generator=request.generator)
