"""The filler constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("constant")
def constant(request: Request) -> Tensor:
    """``value`` everywhere, 0 by default. Source: Caffe's ConstantFiller."""
    return request.empty().fill_(request.message.value)
